"""Which tokens of a fixed KV cache each sequence has: one unbroken range each, so that attention reads it in place."""

from __future__ import annotations

from typing import NamedTuple

_SLACK = 128  # tokens that a range is given beyond what is asked for, so that it rarely moves


class Range(NamedTuple):
    """``size`` tokens from ``start`` on."""

    start: int
    size: int

    @property
    def end(self) -> int:
        return self.start + self.size


class Move(NamedTuple):
    """The tokens of ``source`` belong at ``start`` now. Moves of one change happen at once: they may overlap."""

    source: Range
    start: int


class Ranges:
    """Gives ranges of ``total`` tokens to sequences, and moves them where that makes room."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._held: dict[int, Range] = {}

    def __getitem__(self, key: int) -> Range:
        return self._held[key]

    def free(self, key: int) -> None:
        """Give back what ``key`` has, if anything."""
        self._held.pop(key, None)

    def grow(self, key: int, length: int) -> list[Move] | None:
        """Have at least ``length`` tokens for ``key``. What must be moved for it; None, and no change, if there is
        no room."""
        held = self._held.get(key)
        if held is not None and held.size >= length:
            return []
        for size in (length + _SLACK, length):
            found = self._place(key, size)
            if found is not None:
                self._held[key] = found
                return [] if held is None or held.start == found.start else [Move(held, found.start)]
        return self._compact(key, length)

    def _place(self, key: int, size: int) -> Range | None:
        """Where ``size`` tokens are free: where ``key`` is already, else the first gap that is wide enough."""
        others = sorted(range_ for name, range_ in self._held.items() if name != key)
        ends = [0, *(each.end for each in others)]
        starts = [*(each.start for each in others), self.total]
        gaps = [Range(end, start - end) for end, start in zip(ends, starts, strict=True)]
        mine = self._held.get(key)
        if mine is not None:
            around = next(gap for gap in gaps if gap.start <= mine.start and mine.end <= gap.end)
            if around.end - mine.start >= size:
                return Range(mine.start, size)
        return next((Range(gap.start, size) for gap in gaps if gap.size >= size), None)

    def _compact(self, key: int, length: int) -> list[Move] | None:
        """Push all together, ``key`` last."""
        order = sorted((name for name in self._held if name != key), key=lambda name: self._held[name])
        if sum(self._held[name].size for name in order) + length > self.total:
            return None
        moves, at = [], 0
        for name in (*order, key):
            old = self._held.get(name)
            if old is not None and old.start != at:
                moves.append(Move(old, at))
            size = length if name == key or old is None else old.size
            self._held[name] = Range(at, size)
            at += size
        return moves
