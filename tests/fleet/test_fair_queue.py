"""Who is next: pure decisions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openllm.fleet.fair_queue import FairQueue


def drain(queue: FairQueue[str], cost: dict[str, float] | None = None) -> str:
    """The items in their order; each caller (the item's first letter) is charged its cost."""
    order = []
    while queue:
        item = queue.pop()
        queue.charge(item[0], (cost or {}).get(item[0], 1.0))
        order.append(item[0])
    return "".join(order)


def fill(queue: FairQueue[str], items: str) -> None:
    for key, item in enumerate(items):
        queue.push(item, key, item)


def test_one_caller_is_served_in_order() -> None:
    queue: FairQueue[int] = FairQueue()
    for number in range(5):
        queue.push("", number, number)
    assert [queue.pop() for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(IndexError):
        queue.pop()


def test_callers_take_turns_whoever_sent_more() -> None:
    queue: FairQueue[str] = FairQueue()
    fill(queue, "aaaaaabbb")
    assert drain(queue) == "abababaaa"


def test_turns_are_shared_by_tokens() -> None:
    queue: FairQueue[str] = FairQueue()
    fill(queue, "aaaabbbbbbbb")
    assert drain(queue, {"a": 3.0, "b": 1.0})[:8].count("b") == 6


def test_who_was_away_does_not_come_back_with_savings() -> None:
    queue: FairQueue[str] = FairQueue()
    fill(queue, "aaaa")
    drain(queue, {"a": 100.0})
    fill(queue, "aaaabbbb")
    assert drain(queue, {"a": 100.0, "b": 100.0}).startswith(("abab", "baba"))


def test_what_was_charged_too_much_is_given_back() -> None:
    queue: FairQueue[str] = FairQueue()
    fill(queue, "aaabbb")
    assert queue.pop() == "a"
    queue.charge("a", 1000.0)
    assert queue.pop() == "b"
    queue.charge("b", 10.0)
    queue.charge("a", -995.0)
    assert queue.pop() == "a"


def test_one_that_is_taken_back_is_not_served() -> None:
    queue: FairQueue[str] = FairQueue()
    fill(queue, "aab")
    assert queue.discard("a", 0)
    assert not queue.discard("a", 0)
    assert not queue.discard("c", 0)
    assert len(queue) == 2
    assert drain(queue) == "ab"


def test_one_that_is_put_back_first_is_next_of_its_caller() -> None:
    queue: FairQueue[int] = FairQueue()
    queue.push("a", 1, 1)
    queue.push("a", 0, 0, first=True)
    assert [queue.pop(), queue.pop()] == [0, 1]


@given(st.lists(st.sampled_from("abc"), min_size=30), st.data())
def test_while_all_wait_nobody_gets_more_than_one_turn_ahead(
    arrivals: list[str], data: st.DataObject
) -> None:
    queue: FairQueue[str] = FairQueue()
    fill(queue, "".join(arrivals))
    left = {name: arrivals.count(name) for name in "abc"}
    served = dict.fromkeys("abc", 0.0)
    while all(left.values()):
        caller = queue.pop()
        tokens = data.draw(st.floats(1, 10))
        queue.charge(caller, tokens)
        served[caller] += tokens
        left[caller] -= 1
        assert max(served.values()) - min(served.values()) <= 10
