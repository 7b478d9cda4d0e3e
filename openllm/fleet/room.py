"""How many sequences the runner is given at once. Pure."""

from __future__ import annotations


class Room:
    """For an engine whose widest batch is ``width`` sequences.

    ``live`` is a little more than the batch: what ends in one step is replaced in the next, while the news of its end
    is still on the way to the front and back. ``background`` is a little less, so that a live request finds a place.
    Both are 0 for a width of 0.
    """

    def __init__(self, width: int) -> None:
        spare = -(-width // 8)
        self.live = width + spare
        self.background = max(1, width - spare) if width else 0
