"""``python -m tests.chaos kills|soak|hold``: the long versions of what the tests here do."""

from __future__ import annotations

import argparse
import resource
from itertools import zip_longest

from tests.chaos.faults import Fault, babble, can_babble, hang, kill, kill_template
from tests.chaos.scenarios import Ordeal, endure, hold_twice, soak
from tests.serving import MODEL, serving


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--backend", default="echo")
    kinds = parser.add_subparsers(dest="kind", required=True)
    kills = kinds.add_parser("kills", help="requests while the runner is killed, and put to sleep")
    kills.add_argument("--requests", type=int, default=500)
    kills.add_argument("--kills", type=int, default=10)
    kills.add_argument("--sleeps", type=int, default=5)
    kills.add_argument(
        "--templates", type=int, default=0, help="kill the template so many times, before runners"
    )
    kills.add_argument("--seed", type=int, default=0)
    kills.add_argument("--mixed", action="store_true", help="hang it and send garbage too")
    long = kinds.add_parser("soak", help="a steady load with restarts")
    long.add_argument("--minutes", type=float, default=60)
    long.add_argument("--clients", type=int, default=12)
    held = kinds.add_parser("hold", help="idle streams during two starts")
    held.add_argument("--streams", type=int, default=1000)
    given = parser.parse_args()

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    start = [MODEL, "--backend", given.backend]
    delay = ["--engine-option", "delay=0.01"] if given.backend == "echo" else []
    if given.kind == "kills":
        templates: list[Fault] = [kill_template] * given.templates
        faults: list[Fault] = [
            each for pair in zip_longest(templates, [kill] * given.kills) for each in pair if each
        ]
        if given.mixed:
            faults += [hang, babble] if can_babble() else [hang]
        sleeping = ["--idle-timeout", "1s"] if given.sleeps else []
        sleeping += ["--template"] if given.templates else []
        with serving(*start, *delay, "--stall-timeout", "2", "--load-timeout", "20", *sleeping) as server:
            server.until_ready()
            endure(server, Ordeal(given.requests, 16, faults, (0.5, 3.0), given.sleeps, seed=given.seed))
    elif given.kind == "soak":
        with serving(*start, *delay) as server:
            server.until_ready()
            soak(server, minutes=given.minutes, clients=given.clients)
    else:
        with serving(*start, "--engine-option", "load=5") as server:
            hold_twice(server, given.streams)


if __name__ == "__main__":
    main()
