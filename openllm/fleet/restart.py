"""When a runner that ended is started again. Pure: no clock, no process."""

from __future__ import annotations

import msgspec


class RestartPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Delays in seconds. What follows a runner that answered something, or was ready for ``healthy_after``, counts as
    a fresh start."""

    first: float = 0.0
    second: float = 1.0
    longest: float = 30.0
    healthy_after: float = 60.0
    give_up_after: int = 3

    def delay(self, failures: int) -> float:
        """Seconds to wait before the start that follows ``failures`` ends in a row (1 or more)."""
        if failures <= 1:
            return self.first
        return min(self.longest, self.second * 2.0 ** min(failures - 2, 30))

    def failures(
        self, before: int, ready_for: float | None, *, answered: bool = False, excused: bool = False
    ) -> int:
        """Ends in a row, this one included unless it answered something; ``ready_for`` None if it never was ready. One
        is ``excused`` if a single request is to blame for it, which is not given up yet."""
        if excused:
            return before
        if ready_for is not None and answered:
            return 0
        return 1 if ready_for is not None and ready_for >= self.healthy_after else before + 1

    def holds(self, failures: int) -> bool:
        """May requests still wait for the next start, or are they refused?"""
        return failures < self.give_up_after
