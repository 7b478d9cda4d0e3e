"""Which replica of a model a sequence goes to. Pure.

The least loaded one, unless another has read the beginning of the prompt before: then its prefix cache saves that work.
Prompts are compared in blocks of 32 tokens, each known by a hash of all that comes before it and itself. A collision
sends a sequence to a replica that has less to save than was thought, and does nothing else.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

BLOCK_TOKENS = 32
_MOST_BLOCKS = 256  # of a prompt: two that agree in 8,192 tokens are taken for one conversation
_MOST_REMEMBERED = 16_384  # blocks that a replica is taken to have: half a million tokens
_LEAST_SHARED = 4  # blocks: less is read again in a moment
_MORE_SEQUENCES, _MORE_TIMES = 4, 1.5


class Standing(NamedTuple):
    """A replica when a sequence is to be placed: the ``sequences`` that it has, the ``turn`` in which it was given the
    last one (larger is later), and how many blocks of the prompt it has read before (``shared``)."""

    sequences: int
    turn: int
    shared: int = 0


def choose(standings: Sequence[Standing]) -> int:
    """The index of the replica that is to have a sequence, of at least one.

    Of those that have read most of the prompt, and at least 128 tokens of it, the least loaded; but not if it is
    clearly more loaded than the least loaded of all: by more than 4 sequences, and by more than half as many again.
    Of equally loaded ones it is that which has waited longest.
    """
    everyone = range(len(standings))
    least = min(everyone, key=lambda index: _load(standings[index]))
    most = max(standing.shared for standing in standings)
    if most < _LEAST_SHARED:
        return least
    knowing = (index for index in everyone if standings[index].shared == most)
    best = min(knowing, key=lambda index: _load(standings[index]))
    return least if clearly_more(standings[best].sequences, standings[least].sequences) else best


def clearly_more(sequences: int, least: int) -> bool:
    """Has a replica so many more sequences than the least loaded one that no prefix is worth the wait?"""
    return sequences > least + _MORE_SEQUENCES and sequences > least * _MORE_TIMES


def blocks(prompt: Sequence[int], adapter: str) -> list[int]:
    """The hashes of the whole blocks of a prompt, from the first on. A LoRA adapter is part of each: what one has read
    is of no use to another."""
    found = []
    so_far = hash(adapter)
    for begin in range(0, min(len(prompt), _MOST_BLOCKS * BLOCK_TOKENS) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
        so_far = hash((so_far, *prompt[begin : begin + BLOCK_TOKENS]))
        found.append(so_far)
    return found


class BlocksRead:
    """The blocks that one replica has read of late; the one that was used longest ago is forgotten first."""

    def __init__(self, most: int = _MOST_REMEMBERED) -> None:
        self._most = most
        self._known: OrderedDict[int, None] = OrderedDict()

    def shared(self, hashes: Iterable[int]) -> int:
        """How many of a prompt's blocks it has read, from the first on."""
        count = 0
        for each in hashes:
            if each not in self._known:
                break
            count += 1
        return count

    def add(self, hashes: Sequence[int]) -> None:
        """It is given these to read. The first ones, which more prompts begin with, are forgotten last."""
        known = self._known
        for each in reversed(hashes):
            known[each] = None
            known.move_to_end(each)
        while len(known) > self._most:
            known.popitem(last=False)

    def forget(self) -> None:
        """It is another process now."""
        self._known.clear()


def _load(standing: Standing) -> tuple[int, int]:
    return standing.sequences, standing.turn
