"""How a runner ended, in words."""

from __future__ import annotations

import signal
from pathlib import Path

from openllm.errors import OpenLLMError, OutOfMemory, RunnerFailed

_COUNTERS = Path("/proc/vmstat")


def memory_kills() -> int:
    """How many processes the kernel has killed for want of memory since it booted; 0 where it does not tell."""
    try:
        lines = _COUNTERS.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def ending(status: int, *, memory_kills: int = 0) -> OpenLLMError:
    """The error of a runner that said nothing: its exit status (negative: the signal), and how many processes the
    kernel killed for want of memory meanwhile."""
    if -status == signal.SIGKILL and memory_kills:
        return OutOfMemory(
            "the runner was killed by the kernel: the machine, or its container, ran out of memory"
        )
    hint = "See the lines above it in the log."
    if -status == signal.SIGKILL:
        hint = f"If nobody killed it, memory ran out. {OutOfMemory.HINT}"
    return RunnerFailed(f"the runner ended: {_describe(status)}", hint=hint)


def _describe(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"{name}, perhaps out of memory" if -status == signal.SIGKILL else name
