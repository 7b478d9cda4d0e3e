"""How far a model's way to its first token is, and how long the rest will take. Pure: times are passed in."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

_REMEMBERED = 5
_NEARLY = 0.99  # what a start that takes longer than those before it shows


def learnt(durations: Sequence[float], seconds: float) -> list[float]:
    """The latest durations of a model's starts, ``seconds`` the newest."""
    return [*durations, round(seconds, 3)][-_REMEMBERED:]


def expected(durations: Sequence[float]) -> float | None:
    """How long the next start should take: the median of the latest, which one slow disk does not move."""
    return median(durations) if durations else None


class Headway:
    """One stretch of the way after another: fetching, whose parts are measured, and loading, whose length is known
    from earlier starts only. Times and durations in seconds."""

    def __init__(self) -> None:
        self._began = 0.0
        self._length: float | None = None
        self._first: tuple[float, float] | None = None  # when a part was measured first, and what it was
        self._last: tuple[float, float] | None = None

    def begin(self, now: float, length: float | None = None) -> None:
        """A stretch begins; ``length`` is how long it should take, if that is known."""
        self._began = now
        self._length = length
        self._first = self._last = None

    def measure(self, part: float, now: float) -> None:
        """This part of the stretch, 0 to 1, is behind us."""
        self._last = (now, part)
        if self._first is None or part < self._first[1]:
            self._first = self._last

    def fraction(self, now: float) -> float | None:
        """The part of the stretch that is behind us, if there is a way to tell."""
        if self._last is not None:
            return min(1.0, self._last[1])
        if not self._length:
            return None
        return min(_NEARLY, (now - self._began) / self._length)

    def left(self, now: float) -> float | None:
        """Seconds to the end of the stretch, if there is a way to tell."""
        if self._last is not None:
            return self._left_by_measure(now)
        if self._length is None:
            return None
        return max(0.0, self._began + self._length - now)

    def _left_by_measure(self, now: float) -> float | None:
        assert self._first is not None
        assert self._last is not None
        seconds, part = self._last[0] - self._first[0], self._last[1] - self._first[1]
        if seconds <= 0 or part <= 0:
            return 0.0 if self._last[1] >= 1 else None
        return max(0.0, (1 - self._last[1]) * seconds / part - (now - self._last[0]))
