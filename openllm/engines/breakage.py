"""What an engine's exception means."""

from __future__ import annotations

import re

from openllm.errors import OutOfMemory, RunnerFailed

_MEMORY = re.compile(
    r"bad_alloc|out of memory|outofmemory|not enough memory|(can't|cannot|could not|failed to) allocate",
    re.IGNORECASE,
)
_LONGEST = 400  # characters of an exception that are told


def as_error(error: Exception, doing: str) -> RunnerFailed:
    """An exception of an engine, as an error of ours; ``doing`` says what could not be done."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = lines[-1][:_LONGEST] if lines else "no reason given"
    if isinstance(error, MemoryError) or _MEMORY.search(f"{type(error).__name__} {error}"):
        return OutOfMemory(f"{doing}: it ran out of memory ({type(error).__name__}: {said})")
    return RunnerFailed(
        f"{doing}: {type(error).__name__}: {said}", hint="Run again with --debug for the traceback."
    )
