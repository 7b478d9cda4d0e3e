"""Large requests are worked on in one thread, in turn; what many do at once is spread over turns of the loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from openllm.api import side_lane
from openllm.api.side_lane import LARGE, SideLane, aside
from openllm.api.turnstile import Turnstile
from openllm.errors import Overloaded, RequestError


async def test_only_large_requests_leave_the_loop() -> None:
    here = threading.current_thread()
    assert await aside(threading.current_thread) is here
    LARGE.set(True)
    others = {await aside(threading.current_thread) for _ in range(3)}
    assert len(others) == 1
    assert here not in others
    assert await aside(LARGE.get), "what the request is goes with it"


async def test_errors_come_back() -> None:
    LARGE.set(True)

    def fail() -> None:
        raise RequestError("no")

    with pytest.raises(RequestError, match="no"):
        await aside(fail)


async def test_one_at_a_time_and_what_was_given_up_is_left_out() -> None:
    lane = SideLane()
    begun, go_on, done = threading.Event(), threading.Event(), []

    def first() -> None:
        begun.set()
        assert go_on.wait(10)
        done.append("first")

    tasks = [asyncio.create_task(lane.run(first))]
    await asyncio.to_thread(begun.wait)
    tasks += [asyncio.create_task(lane.run(lambda name=name: done.append(name))) for name in ("b", "c", "d")]  # type: ignore[misc]
    await asyncio.sleep(0)
    assert done == []
    tasks[2].cancel()
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.wait(tasks)
    assert done == ["first", "b", "d"]


async def test_too_many_are_told_to_come_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_lane, "_MOST_WAITING", 2)
    lane, go_on = SideLane(), threading.Event()
    tasks = [asyncio.create_task(lane.run(lambda: go_on.wait(10))) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await lane.run(lambda: None)
    go_on.set()
    await asyncio.wait(tasks)
    await lane.run(lambda: None)


async def test_a_turnstile_lets_one_through_a_turn() -> None:
    turnstile = Turnstile()
    passed: list[int] = []

    async def go(number: int) -> None:
        await turnstile.passed()
        passed.append(number)

    tasks = [asyncio.create_task(go(number)) for number in range(6)]
    tasks[3].cancel()
    most = 0
    while not all(task.done() for task in tasks):
        before = len(passed)
        await asyncio.sleep(0)
        most = max(most, len(passed) - before)
    assert passed == [0, 1, 2, 4, 5]
    assert most == 1
    await asyncio.wait_for(turnstile.passed(), 1)
