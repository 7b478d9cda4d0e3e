"""A runner that is told what to load before there is an event loop."""

from __future__ import annotations

import asyncio

from openllm.api.metrics import Metrics
from openllm.engines.base import EngineConfig, Sampling
from openllm.fleet.keeper import Keeper
from openllm.fleet.spawn import Spawned, spawn
from tests.fleet.keeping import ECHO
from tests.fleet.test_keeper import Held, read_all, until_ready


async def keep(early: Spawned) -> Keeper:
    async def supply(_: object) -> EngineConfig:
        return ECHO

    keeper = Keeper(supply, Metrics(), early=early)
    keeper.start()
    async with asyncio.timeout(10):
        await until_ready(keeper)
    return keeper


async def test_it_is_ready_without_being_told_again() -> None:
    early = spawn("echo")
    early.load(ECHO)
    keeper = await keep(early)
    assert keeper.pid == early.child.pid
    await keeper.stop(at_once=False)


async def test_one_that_ended_before_it_was_told_is_replaced() -> None:
    early = spawn("echo")
    early.child.kill()
    while early.child.poll() is None:
        await asyncio.sleep(0.01)
    early.load(ECHO)
    keeper = await keep(early)
    assert keeper.pid != early.child.pid
    await keeper.stop(at_once=False)


async def test_one_that_is_ready_before_it_is_attached_gets_what_waits() -> None:
    early = spawn("echo")
    early.load(ECHO)
    await asyncio.sleep(1.5)  # its Ready is in the first bytes that are read

    async def supply(_: object) -> EngineConfig:
        return ECHO

    keeper = Keeper(supply, Metrics(), early=early)
    held = Held(keeper.desk, [([5, 6], Sampling(max_tokens=2))])
    keeper.start()
    assert [token for delta in await read_all(held) for token in delta.tokens] == [5, 6]
    await keeper.stop(at_once=False)
