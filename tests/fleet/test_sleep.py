"""A real runner with the echo engine that goes to sleep and is woken, kept by a real keeper."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import msgspec
import psutil
import pytest

from openllm.api.metrics import Metrics
from openllm.engines.base import EngineConfig, Sampling
from openllm.errors import CorruptFile, RunnerFailed
from openllm.fleet.keeper import Keeper
from openllm.fleet.pulling import Tell
from openllm.fleet.restart import RestartPolicy
from openllm.fleet.state import State
from openllm.fleet.upkeep import Upkeep
from tests.fleet.keeping import ECHO, keeping
from tests.fleet.test_keeper import Held, pid, read_all, until_ready

SHORT = Sampling(max_tokens=3)


def sleeping(config: EngineConfig = ECHO, **upkeep: float | bool) -> AbstractAsyncContextManager[Keeper]:
    return keeping(config, upkeep=msgspec.convert(upkeep, Upkeep))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):  # a runner takes long to end on a busy machine
        while not condition():
            await asyncio.sleep(0.005)


async def until_asleep(keeper: Keeper) -> None:
    await until(lambda: keeper.state is State.ASLEEP)


async def ask(keeper: Keeper, tokens: int = 3) -> list[int]:
    deltas = await read_all(Held(keeper.desk, [([5, 6, 7], Sampling(max_tokens=tokens))]))
    return [token for delta in deltas for token in delta.tokens]


async def test_an_idle_runner_is_stopped_and_the_next_request_wakes_another() -> None:
    async with sleeping(idle_seconds=0.2) as keeper:
        await until_ready(keeper)
        first = pid(keeper)
        await until_asleep(keeper)
        assert keeper.pid is None
        assert not psutil.pid_exists(first)
        assert keeper.available
        assert not keeper.ready
        assert keeper.refusal() is None
        assert await ask(keeper) == [5, 6, 7]
        assert (keeper.wakes, keeper.restarts) == (1, 0)
        assert pid(keeper) != first
        await until_asleep(keeper)
        assert keeper.course.asleep_seconds() > 0


async def test_a_runner_with_work_is_not_stopped() -> None:
    async with sleeping(idle_seconds=0.1) as keeper:
        await until_ready(keeper)
        child = pid(keeper)
        assert len(await ask(keeper, tokens=100)) == 100  # 5 ms a token: five times as long as it may be idle
        assert pid(keeper) == child


async def test_each_request_begins_the_wait_anew() -> None:
    async with sleeping(idle_seconds=0.4) as keeper:
        await until_ready(keeper)
        child = pid(keeper)
        for _ in range(4):
            await asyncio.sleep(0.2)
            await ask(keeper)
        assert pid(keeper) == child


async def test_without_an_idle_time_it_stays() -> None:
    async with sleeping() as keeper:
        await until_ready(keeper)
        await ask(keeper)
        await asyncio.sleep(0.3)
        assert keeper.ready


async def test_what_a_request_says_holds_until_the_model_is_unloaded() -> None:
    async with sleeping(idle_seconds=60.0) as keeper:
        await until_ready(keeper)
        keeper.keep_alive = 0.0
        await ask(keeper)
        await until_asleep(keeper)
        assert keeper.keep_alive == 60.0
        await ask(keeper)
        await asyncio.sleep(0.2)
        assert keeper.ready


async def test_a_request_that_comes_while_it_is_unloaded_is_answered_by_the_next_runner() -> None:
    async with sleeping(idle_seconds=0.1) as keeper:
        await until_ready(keeper)
        await until(lambda: keeper.state is State.UNLOADING)
        assert await ask(keeper) == [5, 6, 7]
        assert keeper.wakes == 1


async def test_a_request_that_is_cancelled_before_it_wakes_anything_wakes_nothing() -> None:
    async with sleeping(idle_seconds=0.1) as keeper:
        await until_asleep(keeper)
        held = Held(keeper.desk, [([1], SHORT)])
        keeper.desk.cancel(held.submission)
        await asyncio.sleep(0.2)
        assert keeper.state is State.ASLEEP


async def test_a_request_cancelled_while_waking_leaves_a_model_that_sleeps_again() -> None:
    async with sleeping(msgspec.structs.replace(ECHO, options={"load": "0.3"}), idle_seconds=0.1) as keeper:
        await until_asleep(keeper)
        held = Held(keeper.desk, [([1], SHORT)])
        await until(lambda: keeper.state is State.STARTING)
        assert keeper.available
        keeper.desk.cancel(held.submission)
        await until_asleep(keeper)
        assert keeper.wakes == 1
        assert await ask(keeper) == [5, 6, 7]


async def test_a_runner_that_dies_while_waking_is_started_again() -> None:
    async with sleeping(msgspec.structs.replace(ECHO, options={"load": "0.3"}), idle_seconds=0.1) as keeper:
        await until_asleep(keeper)
        held = Held(keeper.desk, [([5, 6], SHORT)])
        await until(lambda: keeper.state is State.STARTING and keeper.pid is not None)
        os.kill(pid(keeper), signal.SIGKILL)
        assert [t for delta in await read_all(held) for t in delta.tokens] == [5, 6, 5]
        assert (keeper.wakes, keeper.restarts) == (1, 1)


async def test_starts_that_failed_before_a_good_life_do_not_count_against_the_next() -> None:
    slow = msgspec.structs.replace(ECHO, options={"load": "0.1"})
    async with sleeping(slow, idle_seconds=0.0, on_demand=True) as keeper:
        for _ in range(4):  # more than are given up after
            held = Held(keeper.desk, [([5, 6], SHORT)])
            await until(lambda: keeper.state is State.STARTING and keeper.pid is not None)
            os.kill(pid(keeper), signal.SIGKILL)
            assert [t for delta in await read_all(held) for t in delta.tokens] == [5, 6, 5]
            await until_asleep(keeper)


async def test_a_runner_that_dies_with_nothing_to_do_is_there_again_unless_it_is_on_demand() -> None:
    for on_demand, state in ((False, State.READY), (True, State.ASLEEP)):
        async with sleeping(on_demand=on_demand) as keeper:
            keeper.wants.ask_engine()
            await until_ready(keeper)
            os.kill(pid(keeper), signal.SIGKILL)
            await until(lambda keeper=keeper: not keeper.ready)  # type: ignore[misc]
            await until(lambda keeper=keeper, state=state: keeper.state is state)  # type: ignore[misc]


async def test_on_demand_nothing_is_started_or_fetched_before_it_is_wanted() -> None:
    async with sleeping(on_demand=True) as keeper:
        await asyncio.sleep(0.1)
        assert (keeper.state, keeper.pid) == (State.ASLEEP, None)
        assert await ask(keeper) == [5, 6, 7]


async def test_weights_alone_start_no_engine() -> None:
    fetched = []

    async def supply(_: Tell) -> EngineConfig:
        fetched.append(1)
        await asyncio.sleep(0.1)
        return ECHO

    keeper = Keeper(supply, Metrics(), upkeep=Upkeep(on_demand=True))
    keeper.start()
    keeper.wants.ask_weights()
    await until(lambda: bool(fetched))
    keeper.wants.ask_weights()  # another that needs them, while they come
    await asyncio.sleep(0.1)
    await asyncio.sleep(0.1)
    assert (keeper.state, keeper.pid) == (State.ASLEEP, None)
    assert await ask(keeper) == [5, 6, 7]
    assert len(fetched) == 1
    await keeper.stop(at_once=False)


async def test_a_start_on_demand_that_fails_is_told_and_tried_again_later() -> None:
    broken = [True]

    async def supply(_: Tell) -> EngineConfig:
        if broken[0]:
            raise CorruptFile("the weights are damaged")
        return ECHO

    policy = RestartPolicy(first=0.3, second=0.3)
    keeper = Keeper(supply, Metrics(), policy=policy, upkeep=Upkeep(on_demand=True))
    keeper.start()
    held = Held(keeper.desk, [([1], SHORT)])
    assert (await read_all(held))[-1].error == "the weights are damaged"
    assert isinstance(keeper.refusal(), RunnerFailed)
    with pytest.raises(RunnerFailed, match="damaged"):
        await keeper.until_ready()
    assert not keeper.fatal.done()
    broken[0] = False
    await until_asleep(keeper)
    assert await ask(keeper) == [5, 6, 7]
    await keeper.stop(at_once=False)


async def test_stopping_while_waking_leaves_no_process() -> None:
    async with sleeping(msgspec.structs.replace(ECHO, options={"load": "5"}), on_demand=True) as keeper:
        held = Held(keeper.desk, [([1], SHORT)])
        await until(lambda: keeper.pid is not None)
        child = pid(keeper)
        await keeper.stop(at_once=True)
        assert not psutil.pid_exists(child)
        assert (await read_all(held))[-1].finish == "error"


async def test_twenty_naps_leave_nothing_behind() -> None:
    me = psutil.Process()
    others = me.children()
    async with sleeping(msgspec.structs.replace(ECHO, options={}), idle_seconds=0.0) as keeper:
        await until_asleep(keeper)
        before = me.num_fds()
        for _ in range(20):
            assert await ask(keeper) == [5, 6, 7]
            await until_asleep(keeper)
        assert keeper.wakes == 20
        assert me.num_fds() <= before
        async with asyncio.timeout(60):
            # What ended unread before is another test's.
            while [
                child
                for child in me.children()
                if child not in others and child.status() == psutil.STATUS_ZOMBIE
            ]:
                await asyncio.sleep(0.05)
