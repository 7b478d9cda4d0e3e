"""A limit a minute, as a bucket that fills at a steady rate. Pure: times are passed in, in seconds."""

from __future__ import annotations


class Bucket:
    """Holds at most ``per_minute``, and is full at first. It may be overdrawn: what is owed must fill up again."""

    def __init__(self, per_minute: int, now: float) -> None:
        self.per_minute = per_minute
        self._level = float(per_minute)
        self._at = now

    def level(self, now: float) -> float:
        """What can be taken now; negative while something is owed."""
        self._level = min(self.per_minute, self._level + max(0.0, now - self._at) * self.per_minute / 60.0)
        self._at = now
        return self._level

    def take(self, amount: float, now: float) -> None:
        """Take ``amount``, there or not; a negative one is put back."""
        self._level = self.level(now) - amount

    def wait(self, amount: float, now: float) -> float:
        """Seconds until ``amount`` can be taken, 0 if it can be now. For more than it can hold: until it is full."""
        missing = min(amount, self.per_minute) - self.level(now)
        return max(0.0, missing * 60.0 / self.per_minute)
