"""Ranges of a KV cache: none overlap, none loses its tokens, and what fits gets room."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from openllm.engines.kv_ranges import Move, Ranges

TOTAL = 1000


class Cache:
    """What a KV cache is: places that hold tokens, moved as it is told."""

    def __init__(self, total: int) -> None:
        self.places: list[tuple[int, int] | None] = [None] * total

    def move(self, moves: list[Move]) -> None:
        held = [self.places[move.source.start : move.source.end] for move in moves]
        for move, tokens in zip(moves, held, strict=True):
            self.places[move.start : move.start + len(tokens)] = tokens


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 400)), max_size=60))
def test_tokens_stay_what_they_are(steps: list[tuple[int, int]]) -> None:
    """Each step makes a sequence longer by so many tokens, or ends it."""
    ranges, cache, lengths = Ranges(TOTAL), Cache(TOTAL), dict[int, int]()
    for key, more in steps:
        if more == 0:
            ranges.free(key)
            lengths.pop(key, None)
            continue
        length = lengths.get(key, 0) + more
        moves = ranges.grow(key, length)
        if moves is None:
            assert sum(lengths.values()) + more + 128 * len(lengths) > TOTAL, "it would have fitted"
            continue
        cache.move(moves)
        for place in range(lengths.get(key, 0), length):
            cache.places[ranges[key].start + place] = (key, place)
        lengths[key] = length
        for name, count in lengths.items():
            start = ranges[name].start
            assert ranges[name].end <= TOTAL
            assert cache.places[start : start + count] == [(name, place) for place in range(count)]


def test_one_sequence_may_have_all() -> None:
    ranges = Ranges(TOTAL)
    assert ranges.grow(1, 300) == []
    assert ranges.grow(2, 300) == []
    assert ranges.grow(1, TOTAL) is None
    ranges.free(1)
    moves = ranges.grow(2, TOTAL)
    assert moves is not None
    assert ranges[2] == (0, TOTAL)
    assert ranges.grow(2, TOTAL + 1) is None
