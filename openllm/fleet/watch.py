"""When a runner hangs. Pure: times and signs are passed in."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from openllm.fleet.signs import Signs

_WORKS = 0.01  # of the time, on the CPU: less is what waiting threads use
_READS = 65_536  # bytes between two looks: less is what a timer reads
_LONGEST_STEP = 10  # times the limit, for one that computes: there are loops without end
_LOOKS = 8  # within the limit
_SELDOM = 1.0


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of silence after which a runner is ended if it does nothing either, 0 for never: while it has
    sequences (``stall``), and while it loads (``load``)."""

    stall: float = 60.0
    load: float = 600.0

    @property
    def between_looks(self) -> float | None:
        """Seconds from one look to the next; None if there is nothing to look for."""
        limits = [limit for limit in (self.stall, self.load) if limit]
        return min(_SELDOM, min(limits) / _LOOKS) if limits else None


class _Look(NamedTuple):
    at: float
    silent_since: float
    signs: Signs


class Watch:
    """Looks at one runner now and then.

    A step may take long, with a long prompt or a large model, and so may loading: as long as the process computes or
    reads, it does not hang. A step is given up all the same after ten times the limit. It takes two looks, half a
    limit apart: if this process itself was stopped or starved, the runner's messages are read in between.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._before: _Look | None = None

    def look(
        self, now: float, silent_since: float | None, *, loading: bool, signs: Callable[[], Signs]
    ) -> str | None:
        """Why the runner is to be ended, or None. It was heard last at ``silent_since``, or had nothing to do till
        then; None if it still has not."""
        limit = self._patience.load if loading else self._patience.stall
        silent = 0.0 if silent_since is None else now - silent_since
        if not limit or silent_since is None or silent < limit / 2:
            self._before = None
            return None
        before = self._before
        if before is None or before.silent_since != silent_since:
            self._before = _Look(now, silent_since, signs())
            return None
        if now - before.at < limit / 2 or silent < limit:
            return None
        found = signs()
        if not _does_something(before.signs, found, now - before.at):
            doing = "while it loaded the model" if loading else "in the middle of its work"
            return f"it hung {doing}: no sign of life for {silent:.0f} s"
        if not loading and silent >= _LONGEST_STEP * limit:
            return f"one step took more than {silent:.0f} s"
        self._before = _Look(now, silent_since, found)
        return None


def _does_something(before: Signs, after: Signs, seconds: float) -> bool:
    return after.cpu - before.cpu > _WORKS * seconds or after.read - before.read > _READS
