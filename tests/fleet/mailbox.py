"""Where a request waits for what the engine adds to its sequences."""

from __future__ import annotations

import asyncio

from openllm.engines.base import Delta


class Mailbox:
    """Deltas of one request, oldest first. One reader; ``put`` and ``take`` on the same event loop."""

    __slots__ = ("_deltas", "_waiter")

    def __init__(self) -> None:
        self._deltas: list[Delta] = []
        self._waiter: asyncio.Future[None] | None = None

    def put(self, delta: Delta) -> None:
        """Hand over one delta and wake the reader."""
        self._deltas.append(delta)
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def take(self) -> list[Delta]:
        """All that has arrived, at least one; waits for it."""
        if not self._deltas:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        deltas, self._deltas = self._deltas, []
        return deltas
