"""How fast places become free, to tell a client when to come back. Pure: times are passed in."""

from __future__ import annotations

from collections import deque

_REMEMBERED = 128


class Pace:
    """The rate at which sequences ended of late."""

    def __init__(self) -> None:
        self._ends: deque[float] = deque(maxlen=_REMEMBERED)

    def ended(self, now: float) -> None:
        """One sequence left its place."""
        self._ends.append(now)

    def seconds_for(self, places: int, now: float) -> float | None:
        """How long until so many more will have ended, or None while too little is known."""
        if len(self._ends) < 2 or now <= self._ends[0]:
            return None
        return places * (now - self._ends[0]) / len(self._ends)
