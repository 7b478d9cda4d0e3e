"""The events of a response that is streamed in the background: kept, and passed on to whoever follows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class EventLog:
    """``size`` in bytes. An event's place is its sequence number."""

    def __init__(self) -> None:
        self.size = 0
        self._events: list[bytes] = []
        self._followers: dict[object, Callable[[int, bytes], None]] = {}
        self._ended = asyncio.Event()

    def write(self, chunk: bytes) -> None:
        """Add whole events. Does not block."""
        self.size += len(chunk)
        # JSON has no line breaks, so an empty line is always the end of an event.
        for event in chunk.split(b"\n\n")[:-1]:
            number = len(self._events)
            self._events.append(event + b"\n\n")
            for follow in self._followers.values():
                follow(number, self._events[-1])

    def end(self) -> None:
        """No more will come."""
        self._ended.set()

    async def follow(self, write: Callable[[bytes], None], after: int) -> None:
        """Write the events after number ``after``, those that are here and those to come, until the end."""
        before = self._events[after + 1 :]
        if before:
            write(b"".join(before))
        key = object()
        self._followers[key] = lambda number, event: write(event) if number > after else None
        try:
            await self._ended.wait()
        finally:
            del self._followers[key]
