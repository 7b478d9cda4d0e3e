"""A queue that is shared fairly between callers by the tokens they use. Pure: no clock, no effects.

Start-time fair queueing (Goyal, Vin, Cheng 1996) with tokens as the service: each caller has a counter of what it
was charged, the one with the least is next, and a caller that comes back starts from where the others are, so that
nobody saves up while idle. Charging tokens rather than requests follows "Fairness in Serving Large Language Models"
(Sheng et al. 2024).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """Items of one caller leave in the order in which they came; the callers take turns."""

    def __init__(self) -> None:
        self._lines: dict[str, OrderedDict[int, Item]] = {}  # of the callers that have something waiting
        self._charged: dict[str, float] = {}
        self._turn = 0.0  # what the caller who was next last had been charged
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, caller: str, key: int, item: Item, *, first: bool = False) -> None:
        """Put ``item`` at the end of its caller's line, or ``first`` in it. ``key`` must be unique."""
        line = self._lines.get(caller)
        if line is None:
            line = self._lines[caller] = OrderedDict()
            self._charged[caller] = max(self._charged.get(caller, 0.0), self._turn)
        line[key] = item
        if first:
            line.move_to_end(key, last=False)
        self._count += 1

    def pop(self) -> Item:
        """The next item. Raises ``IndexError`` if there is none."""
        if not self._lines:
            raise IndexError("the queue is empty")
        caller = min(self._lines, key=self._charged.__getitem__)
        self._turn = self._charged[caller]
        line = self._lines[caller]
        _, item = line.popitem(last=False)
        self._left(caller, line)
        return item

    def discard(self, caller: str, key: int) -> bool:
        """Take an item out; False if it is not waiting."""
        line = self._lines.get(caller)
        if line is None or key not in line:
            return False
        del line[key]
        self._left(caller, line)
        return True

    def charge(self, caller: str, tokens: float) -> None:
        """Count tokens as used by ``caller``; negative ones give back what was charged too much."""
        self._charged[caller] = self._charged.get(caller, self._turn) + tokens

    def _left(self, caller: str, line: OrderedDict[int, Item]) -> None:
        self._count -= 1
        if not line:
            del self._lines[caller]
