"""Which texts go together: never too many, never none, the oldest always."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from openllm.engines.encoding import Encoding
from openllm.engines.encoding_queue import EncodingQueue


@given(
    lengths=st.lists(st.integers(1, 64), min_size=1, max_size=200),
    most_texts=st.integers(1, 40),
    most_tokens=st.integers(64, 500),
)
def test_every_text_once_within_the_bounds(lengths: list[int], most_texts: int, most_tokens: int) -> None:
    queue = EncodingQueue(context=64, vocabulary=10, most_texts=most_texts, most_tokens=most_tokens)
    for index, length in enumerate(lengths):
        queue.add(Encoding(index, [1] * length))
    left = list(range(len(lengths)))
    while queue:
        batch = queue.take()
        assert batch[0].id == left[0]
        assert len(batch) <= most_texts
        assert len(batch) * max(len(each.ids) for each in batch) <= most_tokens
        left = [index for index in left if index not in {each.id for each in batch}]
    assert left == []


def test_texts_of_like_length_go_together() -> None:
    queue = EncodingQueue(context=100, vocabulary=10, most_texts=10, most_tokens=200)
    for index in range(20):
        queue.add(Encoding(index, [1] * (10 if index % 2 else 90)))
    assert {len(each.ids) for each in queue.take()} == {90}
    queue.remove(2)
    assert all(each.id != 2 for _ in range(5) for each in queue.take())
