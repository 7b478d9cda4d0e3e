"""What a large request needs done before it is submitted is done beside the event loop, in one thread, in turn.

To parse, check, render and tokenize a large body takes up to seconds, in which no stream would get a token. Tokenizing
leaves the interpreter to others; the rest lends it to the event loop whenever it asks, a millisecond later. A second
thread would be no faster, and would take turns that are the event loop's.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from typing import TypeVar

from openllm.errors import Overloaded

QUICK_BYTES = 16_384
"""A request with a body of no more is worked on at once: it takes a few milliseconds at the most."""
_MOST_WAITING = 1024
_SWITCH_SECONDS = 0.001

LARGE: ContextVar[bool] = ContextVar("large", default=False)
"""Is the request that this task serves a large one?"""

T = TypeVar("T")


class SideLane:
    """One thread for the large requests."""

    def __init__(self) -> None:
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, "large-requests")

    async def run(self, work: Callable[[], T]) -> T:
        """Call ``work`` when its turn comes; cancelled before, it is not called. Raises ``Overloaded``."""
        if self._waiting >= _MOST_WAITING:
            raise Overloaded(f"{self._waiting} large requests wait.", hint="Try again later.")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, copy_context().run, work)
        finally:
            self._waiting -= 1


_LANE = SideLane()


async def aside(work: Callable[[], T]) -> T:
    """Call ``work``: here and now for a small request, in the side lane for a large one. Raises what it raises."""
    return await _LANE.run(work) if LARGE.get() else work()


def lend_quickly() -> None:
    """Let the event loop have the interpreter a millisecond after it asks a thread for it, where Python's default is
    five."""
    sys.setswitchinterval(_SWITCH_SECONDS)
