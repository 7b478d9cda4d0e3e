"""One start of one server: its cold start, then its loads, one after the other."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cold import Cold, await_first_token
from benchmarks.load import Load, LoadResult, Target, run_load
from benchmarks.models import CACHE
from benchmarks.process import HOST, Server, ServerFailedError, Usage, free_port
from benchmarks.results import Run
from benchmarks.setups import Setup
from benchmarks.surroundings import CpuClock, quiet

DEADLINE = 300.0
STRANGERS_PERCENT = 5.0
WARM_UP_TOKENS = 16


@dataclass(frozen=True)
class Job:
    """What a setup is measured on: a model (path or name) and the loads. ``served`` is the name that requests
    give."""

    model: str
    served: str
    loads: tuple[Load, ...]


def _launch(setup: Setup, model: str, streams: int) -> Server:
    port = free_port()
    log = CACHE / "logs" / f"{setup.server}-{setup.setting}.log".replace(" ", "-")
    return Server(setup.command(model, port, streams), setup.environment(), port, log)


def prime(setup: Setup, model: str) -> str:
    """Start once, unmeasured, so that files are converted and cached; return the model name that it serves.
    Raises ``ServerFailedError``."""
    with _launch(setup, model, 1) as server:
        name = _served_name(server)
        await_first_token(server, Target(HOST, server.port, name), DEADLINE)
        return name


def _served_name(server: Server) -> str:
    give_up = time.perf_counter() + DEADLINE
    while time.perf_counter() < give_up:
        server.check_alive()
        try:
            with urllib.request.urlopen(f"http://{HOST}:{server.port}/v1/models", timeout=5) as answer:
                return str(json.load(answer)["data"][0]["id"])
        except (OSError, KeyError, ValueError):
            time.sleep(0.05)
    raise server.failure(f"no model list within {DEADLINE:.0f} s")


def measure(setup: Setup, job: Job, round_number: int) -> Run:
    """Start, measure, stop. What goes wrong is in the run's ``errors``; a server that can't start ends the
    run."""
    run = Run(setup.server, setup.setting, round_number)
    groups: Sequence[tuple[Load, ...]] = [job.loads]
    if setup.slots_fixed and job.loads:
        groups = [(load,) for load in job.loads]
    for loads in groups:
        warning = quiet()
        if warning:
            run.warnings.append(warning)
        try:
            _measure_start(setup, job, loads, run)
        except ServerFailedError as failure:
            run.errors.append(scrub(str(failure), job.model))
            break
    return run


def _measure_start(setup: Setup, job: Job, loads: Sequence[Load], run: Run) -> None:
    streams = max((load.streams for load in loads), default=1)
    with _launch(setup, job.model, streams) as server:
        target = Target(HOST, server.port, job.served)
        cold = await_first_token(server, target, DEADLINE)
        _record_cold(run, cold)
        for load in loads:
            _record_load(run, setup, server, target, load)
        _record_memory(run, setup, server)


def _record_cold(run: Run, cold: Cold) -> None:
    """With several starts in a run, the first, which has the fewest slots, counts."""
    run.figures.setdefault("port_open", cold.port_open)
    run.figures.setdefault("first_token", cold.first_token)
    run.figures.setdefault("first_requests", cold.attempts)


def _record_load(run: Run, setup: Setup, server: Server, target: Target, load: Load) -> None:
    warm_up = Load(load.streams, 2 * load.streams, WARM_UP_TOKENS, first=1_000_000)
    warm = run_load(target, warm_up)
    clock, own, before = CpuClock.now(), time.process_time(), server.usage()
    result = run_load(target, load)
    after, own, clock = server.usage(), time.process_time() - own, CpuClock.now().since(clock)
    server.check_alive()

    used = {pid: usage.cpu_seconds - _cpu(before.get(pid)) for pid, usage in after.items()}
    found = {
        **result.figures(),
        **_cpu_figures(setup, after, used, result.tokens),
        "client_cpu_s": result.cpu_seconds,
    }
    run.figures.update({f"{key}@{load.streams}": value for key, value in found.items()})
    run.errors += [
        scrub(f"{load.streams} streams: {error}", target.model) for error in warm.errors + result.errors
    ]
    run.processes += _process_rows(after, used, load.streams)
    strangers = clock.busy - sum(used.values()) - own
    run.warnings += _disturbances(strangers, clock.stolen, result, load.streams)


def _cpu(usage: Usage | None) -> float:
    return usage.cpu_seconds if usage else 0.0


def _cpu_figures(
    setup: Setup, usages: Mapping[int, Usage], used: Mapping[int, float], tokens: int
) -> dict[str, float]:
    if not tokens:
        return {}
    total = sum(used.values())
    figures = {"cpu_ms_per_token": 1e3 * total / tokens}
    if setup.one_process:
        return {**figures, "engine_cpu_s": total}
    front = sum(seconds for pid, seconds in used.items() if usages[pid].role == "front")
    return {
        **figures,
        "front_cpu_s": front,
        "engine_cpu_s": total - front,
        "front_us_per_token": 1e6 * front / tokens,
    }


def _process_rows(
    usages: Mapping[int, Usage], used: Mapping[int, float], streams: int
) -> list[dict[str, object]]:
    return [
        {
            "streams": streams,
            "role": usage.role,
            "name": usage.name,
            "cpu_seconds": round(used[pid], 2),
            "peak_mb": round(usage.peak_bytes / 1e6, 1),
        }
        for pid, usage in usages.items()
    ]


def _disturbances(strangers: float, stolen: float, result: LoadResult, streams: int) -> list[str]:
    """Processor time that neither the server nor the load generator took while a load ran."""
    found = []
    for seconds, whose in ((strangers, "other processes"), (stolen, "the hypervisor")):
        percent = 100 * seconds / result.seconds if result.seconds else 0.0
        if percent > STRANGERS_PERCENT:
            found.append(f"{whose} took {percent:.0f} % of a core during the load of {streams} streams")
    return found


def _record_memory(run: Run, setup: Setup, server: Server) -> None:
    """With several starts in a run, the last, which has the most slots, counts."""
    usages = server.usage().values()
    peak = {
        role: sum(usage.peak_bytes for usage in usages if usage.role == role) / 1e6
        for role in ("front", "engine")
    }
    run.figures["total_pss_mb"] = server.proportional_bytes() / 1e6
    if setup.one_process:
        run.figures["engine_peak_mb"] = sum(peak.values())
    else:
        run.figures["front_peak_mb"] = peak["front"]
        run.figures["engine_peak_mb"] = peak["engine"]


def scrub(text: str, model: str) -> str:
    """No paths of this machine in what is published."""
    for place in (model, str(Path.cwd()), str(Path.home())):
        text = text.replace(place, Path(place).name)
    return text
