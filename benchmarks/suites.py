"""Which servers meet on which model, under which loads, and what is asked of ours."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import models
from benchmarks.figures import Goal
from benchmarks.load import Load
from benchmarks.measure import Job, measure, prime, scrub
from benchmarks.process import ServerFailedError
from benchmarks.results import Run, SuiteResult
from benchmarks.setups import Setup, llama_server, openllm, vllm_serve

TOKENS = 128


@dataclass(frozen=True)
class Suite:
    """``ours`` against ``peers``, which are settings of one server; no peers if it isn't installed."""

    key: str
    title: str
    model: Path
    loads: tuple[Load, ...]
    ours: Setup
    peers: Sequence[Setup]
    goals: tuple[Goal, ...]
    notes: list[str] = field(default_factory=list)

    @property
    def setups(self) -> list[Setup]:
        return [self.ours, *self.peers]


def _loads(counts: dict[int, int]) -> tuple[Load, ...]:
    return tuple(
        Load(streams, requests, TOKENS, first=1000 * streams) for streams, requests in counts.items()
    )


def openvino_suite(gguf: Path) -> Suite:
    found = shutil.which("llama-server") is not None
    return Suite(
        key="openvino",
        title="SmolLM2-135M-Instruct (Q4_1 GGUF): OpenVINO backend against llama.cpp",
        model=gguf,
        loads=_loads({1: 8, 16: 64, 64: 192}),
        ours=openllm("openvino"),
        peers=[llama_server()] if found else [],
        notes=[
            "llama-server's -np and -c follow the number of streams, with a start for each"
            if found
            else "llama-server is not on PATH: ours ran alone"
        ],
        goals=(
            Goal("first_token", at_most=2.0, absolute=True),
            Goal("tokens_per_s@1", at_least=0.95),
            Goal("tokens_per_s@16", at_least=3.0),
            Goal("tokens_per_s@64", at_least=4.5),
            Goal("ttft_p50@1", at_most=0.4),
            Goal("ttft_p50@16", at_most=0.4),
            Goal("ttft_p50@64", at_most=0.4),
        ),
    )


def vllm_suite(gguf: Path) -> Suite:
    return Suite(
        key="vllm",
        title="SmolLM2-135M-Instruct (bfloat16 safetensors): vLLM backend against `vllm serve`",
        model=models.smollm2_safetensors(gguf),
        loads=_loads({1: 8, 16: 64, 64: 192}),
        ours=openllm("vllm"),
        peers=vllm_serve(),
        goals=(
            Goal("first_token", at_most=0.4),
            Goal("tokens_per_s@1", at_least=1.15),
            Goal("tokens_per_s@16", at_least=1.5),
            Goal("tokens_per_s@64", at_least=1.25),
            Goal("ttft_p50@64", at_most=0.6),
        ),
    )


def tiny_suite(gguf: Path) -> Suite:
    return Suite(
        key="tiny",
        title="Tiny random llama (2 layers, hidden size 64): the server rather than the engine",
        model=models.tiny(gguf),
        loads=_loads({1: 16, 16: 128, 64: 256}),
        ours=openllm("vllm"),
        peers=vllm_serve(),
        goals=(
            Goal("tokens_per_s@64", at_least=1.4),
            Goal("ttft_p50@64", at_most=0.38),
            Goal("front_us_per_token@64", at_most=0.3),
        ),
    )


SUITES = {"openvino": openvino_suite, "vllm": vllm_suite, "tiny": tiny_suite}
NEEDS_VLLM = {"vllm", "tiny"}


def runnable(key: str) -> bool:
    return key not in NEEDS_VLLM or importlib.util.find_spec("vllm") is not None


def run_suite(suite: Suite, rounds: int) -> SuiteResult:
    """Prime every server, then measure all setups in turn, ``rounds`` times, every other round backwards.
    Blocks for many minutes. Never raises for a server's fault: it is in the result's errors."""
    result = SuiteResult(
        key=suite.key,
        title=suite.title,
        ours=suite.ours.server,
        peer=suite.peers[0].server if suite.peers else "",
        streams=tuple(load.streams for load in suite.loads),
        goals=suite.goals,
        commands={
            f"{setup.server}, {setup.setting}": setup.shown(suite.model.name) for setup in suite.setups
        },
        notes=list(suite.notes),
    )
    served = _prime_all(suite, result)
    for number in range(1, rounds + 1):
        turn = suite.setups if number % 2 else suite.setups[::-1]
        for setup in turn:
            if setup.server in served:
                _say(f"{suite.key}: round {number} of {rounds}: {setup.server}, {setup.setting}")
                run = measure(setup, Job(str(suite.model), served[setup.server], suite.loads), number)
                _say_figures(run)
                result.runs.append(run)
    return result


def _prime_all(suite: Suite, result: SuiteResult) -> dict[str, str]:
    """The name that each server serves the model under; a server that can't start is left out of the
    rounds."""
    served: dict[str, str] = {}
    failed: set[str] = set()
    for setup in suite.setups:
        if setup.server in served or setup.server in failed:
            continue
        _say(f"{suite.key}: first, unmeasured start of {setup.server}")
        try:
            served[setup.server] = prime(setup, str(suite.model))
        except ServerFailedError as failure:
            failed.add(setup.server)
            result.runs.append(
                Run(setup.server, setup.setting, 0, errors=[scrub(str(failure), str(suite.model))])
            )
    return served


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _say_figures(run: Run) -> None:
    shown = ("first_token", "tokens_per_s", "ttft_p50", "front_us_per_token")
    figures = [f"{key} {value:.4g}" for key, value in run.figures.items() if key.partition("@")[0] in shown]
    _say(f"  {', '.join(figures)}; {len(run.errors)} errors")
