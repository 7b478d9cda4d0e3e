"""Lets what waits go on one by one, a turn of the event loop each."""

from __future__ import annotations

import asyncio
from collections import deque


class Turnstile:
    """Many that have some work to do at the same time would, one after the other, keep everyone else waiting for the
    sum of it; between two that pass here, what else is ready gets its turn."""

    def __init__(self) -> None:
        self._free = True
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def passed(self) -> None:
        """Wait for one's turn; first come, first served."""
        loop = asyncio.get_running_loop()
        if self._free:
            self._free = False
            loop.call_soon(self._next)
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _next(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # else whoever waited has gone
                turn.set_result(None)
                asyncio.get_running_loop().call_soon(self._next)
                return
        self._free = True
