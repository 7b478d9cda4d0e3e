"""How each server is started. Peers get the settings that suit them best."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from openllm.machine.probe import probe

Command = Callable[[str, int, int], list[str]]
"""(model, port, streams) -> argv"""

OFFLINE = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
CONTEXT_PER_SLOT = 512


@dataclass(frozen=True)
class Setup:
    """One server in one setting. ``slots_fixed``: its width is set at the start, so each stream count has a
    start of its own. ``one_process``: front and engine can't be told apart."""

    server: str
    setting: str
    command: Command
    env: Mapping[str, str] = field(default_factory=dict)
    slots_fixed: bool = False
    one_process: bool = False

    def environment(self) -> dict[str, str]:
        return {**OFFLINE, **self.env}

    def shown(self, model: str) -> str:
        """The command as a reader may repeat it."""
        words = self.command(model, 8000, 64)
        words[0] = os.path.basename(words[0])
        return " ".join([*(f"{name}={value}" for name, value in self.env.items()), *words])


def openllm(backend: str) -> Setup:
    def command(model: str, port: int, streams: int) -> list[str]:
        return [sys.executable, "-m", "openllm", "start", model, "--backend", backend, "--port", str(port)]

    return Setup(f"openllm ({backend})", "default", command)


def vllm_serve() -> list[Setup]:
    """vLLM's own server, eager (its compiled mode costs a minute at every start on a CPU and gave doubtful
    text), in each way to set its threads, in bfloat16 where the CPU computes in it: elsewhere that is several times
    slower than float32. Access log off; metrics stay on, as ours do."""
    has_bf16 = any("bf16" in feature for feature in probe(Path.home()).cpu_features)
    dtype = "bfloat16" if has_bf16 else "float32"

    def command(model: str, port: int, streams: int) -> list[str]:
        options = ["--enforce-eager", "--dtype", dtype, "--disable-uvicorn-access-log"]
        where = ["--host", "127.0.0.1", "--port", str(port)]
        return [
            sys.executable,
            "-m",
            "vllm.entrypoints.openai.api_server",
            "--model",
            model,
            *options,
            *where,
        ]

    cores = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    cache = {"VLLM_CPU_KVCACHE_SPACE": "1"}
    settings = [Setup("vllm serve", "threads bound", command, {**cache, "VLLM_CPU_OMP_THREADS_BIND": "auto"})]
    for threads in sorted({1, cores}):
        env = {**cache, "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(threads)}
        settings.append(Setup("vllm serve", f"{threads} free threads", command, env))
    return settings


def llama_server() -> Setup:
    """As many slots as streams, as many threads as cores."""
    cores = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1

    def command(model: str, port: int, streams: int) -> list[str]:
        size = ["-t", str(cores), "-np", str(streams), "-c", str(streams * CONTEXT_PER_SLOT)]
        return ["llama-server", "-m", model, *size, "--host", "127.0.0.1", "--port", str(port)]

    return Setup("llama-server", "default", command, slots_fixed=True, one_process=True)
