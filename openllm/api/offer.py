"""One model that a server is to serve."""

from __future__ import annotations

from typing import NamedTuple

from openllm.fleet.spawn import Spawned
from openllm.fleet.supply import Supply


class Offer(NamedTuple):
    """``names`` are what the ``model`` field may say, the first one is shown; ``queue`` is how many sequences may wait
    for it. ``early`` is a runner that was spawned for it already; a ``pinned`` model is always loaded."""

    supply: Supply
    names: tuple[str, ...]
    queue: int
    early: Spawned | None = None
    pinned: bool = False
