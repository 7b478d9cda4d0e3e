"""Where a model is on its way: its state, since when, and how far it is to the next answer."""

from __future__ import annotations

from collections.abc import Callable

from openllm.fleet.headway import Headway
from openllm.fleet.state import State
from openllm.fleet.upkeep import PastStarts


class Course:
    """``doing`` says in words what is being done, ``since`` when the state began, by ``clock``."""

    def __init__(self, state: State, doing: str, clock: Callable[[], float], past: PastStarts) -> None:
        self.state = state
        self.doing = doing
        self.since = clock()
        self._clock = clock
        self._past = past
        self._headway = Headway()
        self._slept = 0.0

    def become(self, state: State, doing: str) -> None:
        """Come into a state, or do something else in it."""
        if state is not self.state:
            self._slept = self.asleep_seconds()
            self.since = self._clock()
        self.state, self.doing = state, doing

    def fetch(self) -> None:
        """Fetching begins."""
        self._headway.begin(self._clock())

    def load(self) -> None:
        """Loading begins, which should take as long as it did before."""
        self._headway.begin(self._clock(), self._past.expected())

    def measure(self, part: float) -> None:
        """So much of it is done, 0 to 1."""
        self._headway.measure(part, self._clock())

    def asleep_seconds(self) -> float:
        """How long there was no runner because none was needed, in all."""
        return self._slept + (self._clock() - self.since if self.state is State.ASLEEP else 0.0)

    def progress(self) -> tuple[float | None, float | None]:
        """(the part of what is being done that is behind us, seconds until the engine answers), as far as known."""
        if self.state is State.READY:
            return 1.0, 0.0
        if self.state not in (State.PULLING, State.STARTING):
            return None, None
        now = self._clock()
        left = self._headway.left(now)
        if self.state is State.PULLING and left is not None:
            start = self._past.expected()
            left = None if start is None else left + start
        return self._headway.fraction(now), left
