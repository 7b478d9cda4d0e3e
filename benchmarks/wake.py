"""How long until the first token of an engine that is not running, and what its server costs meanwhile.

``python -m benchmarks.wake [--only openvino] [--times 5]``. For each engine: a runner alone, whose front this process
plays, forked from a template and as a new process; `openllm start --start-asleep`, from a request to its first token,
over HTTP; and `openllm start` from the command. Beside them `vllm serve` and llama.cpp's ``llama-server`` from their
commands, if they are installed: they have to be stopped and started to give their memory back. What is left is looked
at for 30 s: of ours asleep, of the others loaded and idle. Everything is done once unmeasured, so that files are
converted and in the disk cache. The table goes to ``results/wake.md``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import NamedTuple

import httpx
import psutil

from benchmarks.cold import await_first_token
from benchmarks.load import Target
from benchmarks.models import CACHE, smollm2_gguf, smollm2_safetensors
from benchmarks.process import HOST, Server, free_port
from benchmarks.rest import Rest, rest
from benchmarks.runner_life import config_of, lives
from benchmarks.setups import OFFLINE, llama_server, vllm_serve
from benchmarks.surroundings import describe, idle_enough
from openllm.fleet.spawn import PlainSpawner
from openllm.fleet.template import TemplateSpawner, can_fork

_MODEL = "smollm2"
_ENGINES = ("openvino", "vllm")
_PEERS = ("vllm-serve", "llama-server")
_DEADLINE = 180.0
_LOG = CACHE / "logs" / "wake.log"
_PAGE = Path(__file__).with_name("results") / "wake.md"


class Row(NamedTuple):
    """Of one way to start: seconds to the first byte of any answer, where that is another matter, and to the first
    token, each time; and what is left when it is idle."""

    name: str
    tokens: list[float]
    bytes: list[float] | None = None
    idle: Rest | None = None


class Trial(NamedTuple):
    """So many ``times`` each; what is idle is looked at for ``seconds``."""

    times: int
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.wake", description=__doc__)
    parser.add_argument("--only", action="append", choices=[*_ENGINES, *_PEERS])
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--idle", type=float, default=30.0, help="seconds")
    parser.add_argument("--output", type=Path, default=_PAGE)
    options = parser.parse_args()
    wanted = options.only or [*_ENGINES, *_PEERS]
    trial = Trial(options.times, options.idle)
    warning = idle_enough()
    rows = []
    for row in _rows(wanted, trial):
        print(_line(row), flush=True)
        rows.append(row)
    page = _page(rows, trial, warning)
    options.output.write_text(page)
    print(f"\n{page}")


def _rows(wanted: list[str], trial: Trial) -> Iterator[Row]:
    gguf = str(smollm2_gguf())
    for engine in _ENGINES:
        if engine in wanted:
            yield from _runners(engine, trial)
            yield from _servers(engine, gguf, trial)
    if "vllm-serve" in wanted and find_spec("vllm"):
        model = str(smollm2_safetensors(Path(gguf)))
        setup = vllm_serve()[-1]  # as many free threads as cores
        yield _start(
            "vllm serve", lambda port: setup.command(model, port, 1), model, trial, setup.environment()
        )
    if "llama-server" in wanted and shutil.which("llama-server"):
        yield _start("llama-server", lambda port: llama_server().command(gguf, port, 1), gguf, trial)


def _runners(engine: str, trial: Trial) -> Iterator[Row]:
    config = config_of(_MODEL, engine)
    if can_fork():
        templates = TemplateSpawner(lambda text: print(text, file=sys.stderr))
        tokens = lives(templates, config, trial.times)
        idle = rest([psutil.Process(pid) for pid in templates.pids()], trial.seconds)
        templates.close()
        yield Row(f"{engine}: runner, forked", tokens, idle=idle)
    yield Row(f"{engine}: runner, new process", lives(PlainSpawner(), config, trial.times))


def _servers(engine: str, gguf: str, trial: Trial) -> Iterator[Row]:
    def command(*options: str) -> Callable[[int], list[str]]:
        start = [sys.executable, "-m", "openllm", "start", gguf, "--backend", engine]
        return lambda port: [*start, *options, "--port", str(port)]

    yield _wakes(f"{engine}: openllm, asleep", command("--start-asleep"), trial)
    yield _wakes(f"{engine}: openllm, asleep, no template", command("--start-asleep", "--no-template"), trial)
    yield _start(f"{engine}: openllm start", command(), gguf, trial)._replace(idle=None)


def _wakes(name: str, command: Callable[[int], list[str]], trial: Trial) -> Row:
    """From requests to a server that is asleep. Each lets it sleep again."""
    with Server(command(port := free_port()), OFFLINE, port, _LOG) as server:
        _first_byte(server)
        with httpx.Client(base_url=f"http://{HOST}:{port}", timeout=_DEADLINE) as client:
            _until_asleep(client)
            tokens = [_wake(client) for _ in range(trial.times + 1)][1:]
        return Row(name, tokens, idle=rest(server.tree(), trial.seconds))


def _wake(client: httpx.Client) -> float:
    """Seconds from a request to its first token; it is asleep again then."""
    model = client.get("/v1/models").json()["data"][0]["id"]
    body = {"model": model, "prompt": "The capital of France is", "max_tokens": 4, "temperature": 0}
    begun, first = time.perf_counter(), 0.0
    with client.stream("POST", "/v1/completions", json={**body, "stream": True, "keep_alive": 0}) as answer:
        for line in answer.iter_lines():
            if not first and line.startswith("data: {") and json.loads(line[6:])["choices"][0]["text"]:
                first = time.perf_counter() - begun
    _until_asleep(client)
    return first


def _until_asleep(client: httpx.Client) -> None:
    while client.get("/readyz").json()["state"] != "asleep":
        time.sleep(0.02)


def _start(
    name: str, command: Callable[[int], list[str]], model: str, trial: Trial, env: dict[str, str] = OFFLINE
) -> Row:
    """From the command; loaded and idle at the end."""
    first_bytes, tokens, idle = [], [], None
    for number in range(trial.times + 1):
        with Server(command(port := free_port()), env, port, _LOG) as server:
            first_bytes.append(_first_byte(server))
            tokens.append(await_first_token(server, Target(HOST, port, model), _DEADLINE).first_token)
            if number == trial.times:
                idle = rest(server.tree(), trial.seconds)
    return Row(name, tokens[1:], first_bytes[1:], idle)


def _first_byte(server: Server) -> float:
    """Seconds from the command to the first byte of any answer."""
    while True:
        server.check_alive()
        with contextlib.suppress(OSError), socket.create_connection((HOST, server.port), _DEADLINE) as link:
            link.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            if link.recv(1):
                return time.perf_counter() - server.started
        time.sleep(0.005)


_HEAD = (
    "| what is started | first byte, s | first token, s | idle: processes | RSS, MB | PSS, MB | CPU, % of a core |",
    "| --- | --- | --- | --- | --- | --- | --- |",
)


def _line(row: Row) -> str:
    idle = row.idle
    cost = (
        ["-"] * 4
        if idle is None
        else [str(idle.processes), f"{idle.rss / 1e6:.0f}", f"{idle.pss / 1e6:.0f}", f"{100 * idle.cpu:.1f}"]
    )
    return f"| {' | '.join([row.name, _seconds(row.bytes), _seconds(row.tokens), *cost])} |"


def _seconds(found: list[float] | None) -> str:
    return "-" if not found else f"{median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


def _page(rows: list[Row], trial: Trial, warning: str | None) -> str:
    about = [f"- {name}: {value}" for name, value in describe().items()]
    told = [f"- **warning**: {warning}"] if warning else []
    text = (
        f"SmolLM2-135M, medians of {trial.times}, least and greatest. Idle is asleep for openllm, a template alone for"
        f" a forked runner, and loaded for the others; {trial.seconds:.0f} s of it."
    )
    return "\n".join(["# Waking", "", text, "", *about, *told, "", *_HEAD, *(_line(row) for row in rows), ""])


if __name__ == "__main__":
    main()
