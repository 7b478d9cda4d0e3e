"""What is said of a runner's end, and of an engine's exception."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from openllm.engines.breakage import as_error
from openllm.errors import OutOfMemory, RunnerFailed
from openllm.fleet.ending import ending, memory_kills


def test_a_kill_is_one_for_memory_if_the_kernel_counted_one() -> None:
    assert isinstance(ending(-signal.SIGKILL, memory_kills=1), OutOfMemory)
    unsure = ending(-signal.SIGKILL)
    assert not isinstance(unsure, OutOfMemory)
    assert "perhaps out of memory" in unsure.message
    assert "If nobody killed it" in (unsure.hint or "")
    assert "SIGSEGV" in ending(-signal.SIGSEGV, memory_kills=1).message
    assert "exit status 5" in ending(5).message


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts them")
def test_the_kernel_tells_how_many_it_killed() -> None:
    said = subprocess.run(["grep", "-w", "oom_kill", "/proc/vmstat"], capture_output=True, text=True).stdout
    assert memory_kills() >= int(said.split()[1]) if said else memory_kills() == 0


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("Exception from src/core: std::bad_alloc"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"
        ),
        type("OutOfMemoryError", (RuntimeError,), {})("CUDA: 2 GiB"),
    ],
    ids=["python", "openvino", "torch", "cuda"],
)
def test_an_exception_for_want_of_memory_has_a_hint(error: Exception) -> None:
    told = as_error(error, "it could not load")
    assert isinstance(told, OutOfMemory)
    assert "it could not load: it ran out of memory" in told.message
    assert "--context" in (told.hint or "")


def test_another_exception_is_told_as_it_is() -> None:
    told = as_error(ValueError("first\nno such layer"), "it could not load")
    assert type(told) is RunnerFailed
    assert told.message == "it could not load: ValueError: no such layer"
