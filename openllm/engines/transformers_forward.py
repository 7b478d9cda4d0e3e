"""How a model of transformers is run over several sequences: what the ways of doing it have in common."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol


class Piece(NamedTuple):
    """The next tokens of one sequence: ``ids`` stand at ``start`` and after; all before are in its cache already.

    ``wanted`` are the places among ``ids`` of which the logits are wanted.
    """

    key: int
    ids: list[int]
    start: int
    wanted: list[int]


class Forward(Protocol):
    """A model and its KV cache. ``chunk`` is the most tokens of prompts in one step, 0 for a model that must have
    a prompt whole; ``total`` the tokens that the cache holds."""

    chunk: int
    total: int

    def grow(self, key: int, length: int) -> bool:
        """Make room for ``length`` tokens of a sequence; False, and no change, if there is none."""

    def free(self, key: int) -> None:
        """Give back what a sequence has, if anything."""

    def run(self, pieces: list[Piece]) -> Any:
        """One step. The logits of all that is wanted, in order: a tensor (wanted, vocabulary) in float32. Blocks."""
