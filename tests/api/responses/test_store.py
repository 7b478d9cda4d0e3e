"""What is stored is bounded, private, and can be gone on from."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from openllm.api.responses.log import EventLog
from openllm.api.responses.store import MAX_INPUT_BYTES, Store, Stored, check_size
from openllm.errors import ObjectNotFound, RequestError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def stored(name: str, caller: str = "", size: int = 0, before: tuple[bytes, ...] = ()) -> Stored:
    body: dict[str, Any] = {"id": name, "status": "completed", "output": [], "background": False}
    return Stored.make(caller, body, (*before, b'["%s"]' % (b"x" * size)))


def here(store: Store, caller: str = "", names: str = "abcdef") -> str:
    return "".join(name for name in names if store.find(caller, name))


def test_the_oldest_goes_where_there_are_too_many() -> None:
    store = Store(max_responses=3)
    for name in "abcde":
        store.put(stored(name))
    assert here(store) == "cde"


def test_the_oldest_goes_where_there_are_too_many_bytes() -> None:
    store = Store(max_bytes=4000)
    for name in "abcdef":
        store.put(stored(name, size=1000))
    assert here(store) == "def"
    assert store.size <= 4000


def test_the_caller_with_the_most_makes_room() -> None:
    store = Store(max_bytes=10_000)
    store.put(stored("a", "modest", 1000))
    for name in "bcdefgh":
        store.put(stored(name, "greedy", 3000))
    assert here(store, "modest") == "a"
    assert here(store, "greedy", "bcdefgh") == "gh"


def test_nobody_sees_what_others_stored() -> None:
    store = Store()
    store.put(stored("a", "one"))
    assert store.find("two", "a") is None
    with pytest.raises(ObjectNotFound):
        store.get("two", "a")
    assert store.get("one", "a").id == "a"


def test_what_is_old_goes() -> None:
    clock = Clock()
    store = Store(seconds=10, clock=clock)
    store.put(stored("a"))
    clock.now = 6
    store.put(stored("b"))
    clock.now = 11
    assert here(store) == "b"
    clock.now = 20
    assert (here(store), len(store), store.size) == ("", 0, 0)


def test_a_new_state_takes_the_place_of_the_old() -> None:
    store = Store()
    first = stored("a", size=100)
    store.put(first)
    before = store.size
    first.become({**first.content(), "output": [{"type": "message"}]})
    store.put(first)
    assert len(store) == 1
    assert store.size == first.size > before
    store.remove(first)
    assert store.size == 0


def test_a_conversation_outlives_what_it_went_on_from() -> None:
    store = Store(max_responses=1)
    store.put(stored("a", size=3))
    first = store.get("", "a")
    store.put(stored("b", before=first.conversation()))
    assert here(store) == "b"
    texts: list[Any] = store.get("", "b").input_items()
    assert texts == ["xxx", ""]


def test_what_is_too_large_alone_is_refused_before() -> None:
    check_size((b"x" * MAX_INPUT_BYTES,))
    with pytest.raises(RequestError) as caught:
        check_size((b"x" * MAX_INPUT_BYTES, b"x"))
    assert caught.value.param == "store"


async def test_a_log_gives_each_follower_what_it_lacks() -> None:
    log = EventLog()
    log.write(b"data: 0\n\ndata: 1\n\n")
    late: list[bytes] = []
    early: list[bytes] = []
    ahead: list[bytes] = []
    async with asyncio.TaskGroup() as group:
        group.create_task(log.follow(early.append, -1))
        group.create_task(log.follow(late.append, 0))
        group.create_task(log.follow(ahead.append, 2))
        await asyncio.sleep(0)
        log.write(b"data: 2\n\ndata: 3\n\n")
        log.end()
    assert b"".join(early) == b"data: 0\n\ndata: 1\n\ndata: 2\n\ndata: 3\n\n"
    assert b"".join(late) == b"data: 1\n\ndata: 2\n\ndata: 3\n\n"
    assert ahead == [b"data: 3\n\n"]
    assert log.size == len(b"".join(early))
