"""The one gate to memory that all replicas of a model pass."""

from __future__ import annotations

import asyncio

from openllm.fleet.upkeep import Gate


class SharedGate:
    """The first replica that enters waits for room for all; when the last one has left, the room is given back.

    Once ``shut`` nobody enters, and whoever is inside is to leave, until it is ``unlock``ed again.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._inside = 0
        self._turn = asyncio.Lock()
        self._shut = asyncio.Event()

    @property
    def is_shut(self) -> bool:
        return self._shut.is_set()

    def shut(self) -> None:
        """There are to be no runners."""
        self._shut.set()

    def unlock(self) -> None:
        """There may be runners again."""
        self._shut.clear()

    async def until_shut(self, seconds: float) -> None:
        """Wait until it is, but no longer than so many ``seconds``."""
        try:
            async with asyncio.timeout(seconds):
                await self._shut.wait()
        except TimeoutError:
            return

    async def enter(self) -> bool:
        """Wait for memory; False if nobody wants a runner any more: then it is shut."""
        async with self._turn:
            if self.is_shut:
                return False
            if not self._inside and not await self._gate.enter():
                self.shut()
                return False
            self._inside += 1
        if self.is_shut:
            self.leave()
        return not self.is_shut

    def leave(self) -> None:
        """A replica has no runner any more, or was not started after all."""
        self._inside = max(0, self._inside - 1)
        if not self._inside:
            self._gate.leave()

    def clear(self) -> None:
        """Nobody is inside."""
        self._inside = 0
        self._gate.leave()

    def changed(self) -> None:
        """See ``Gate``."""
        self._gate.changed()
