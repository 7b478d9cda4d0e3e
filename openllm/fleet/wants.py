"""What is wanted of a model: its weights, or a runner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from openllm.fleet.desk import Desk


class Wants:
    """A runner is wanted while a request waits at the desk, and from ``ask_engine`` until ``served``; the weights alone
    from ``ask_weights`` until ``fetched``."""

    def __init__(self, desk: Desk, clock: Callable[[], float]) -> None:
        self._desk = desk
        self._clock = clock
        self._asked_at: float | None = None
        self._weights = False
        self._stirred = asyncio.Event()

    @property
    def engine(self) -> bool:
        """Has a runner been asked for, whatever waits at the desk?"""
        return self._asked_at is not None

    @property
    def since(self) -> float | None:
        """When the oldest of what needs a runner came, None if nothing does."""
        oldest = self._desk.oldest()
        times = [time for time in (self._asked_at, oldest and oldest[0]) if time is not None]
        return min(times, default=None)

    @property
    def live(self) -> bool:
        """Is a runner wanted by more than background work?"""
        oldest = self._desk.oldest()
        return self.engine or (oldest is not None and oldest[1])

    def ask_weights(self) -> None:
        self._weights = True
        self._stirred.set()

    def ask_engine(self) -> None:
        if self._asked_at is None:
            self._asked_at = self._clock()
        self._stirred.set()

    def stir(self) -> None:
        """Something came to the desk."""
        self._stirred.set()

    def fetched(self) -> None:
        """The weights are here."""
        self._weights = False

    def served(self) -> None:
        """There is a runner, or there cannot be one."""
        self._asked_at = None

    def forget(self) -> None:
        """Nothing is wanted but what waits at the desk."""
        self._asked_at = None
        self._weights = False

    async def until_any(self) -> None:
        """Wait until something is wanted."""
        while not (len(self._desk) or self.engine or self._weights):
            self._stirred.clear()
            await self._stirred.wait()
