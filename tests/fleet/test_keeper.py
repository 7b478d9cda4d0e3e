"""A real runner process with the echo engine, kept by a real keeper."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import psutil
import pytest

from openllm.api.metrics import Metrics
from openllm.engines.base import Delta, EngineConfig, Sampling
from openllm.errors import OpenLLMError
from openllm.fleet.desk import Desk
from openllm.fleet.keeper import Keeper
from openllm.fleet.restart import RestartPolicy
from openllm.fleet.state import State
from openllm.fleet.upkeep import Upkeep
from tests.fleet.mailbox import Mailbox

ECHO = EngineConfig(
    engine="echo",
    path="",
    name="echo",
    dtype="auto",
    quantization="none",
    context=4096,
    max_sequences=256,
    kv_cache_bytes=0,
    threads=1,
    cache="",
    options={"delay": "0.005"},
)
QUICK = RestartPolicy(second=0.05, longest=0.2)


@asynccontextmanager
async def keeping(
    config: EngineConfig = ECHO, policy: RestartPolicy = QUICK, **upkeep: Any
) -> AsyncIterator[Keeper]:
    async def supply(_: object) -> EngineConfig:
        return config

    keeper = Keeper(supply, Metrics(), policy=policy, upkeep=Upkeep(**upkeep))
    keeper.start()
    try:
        yield keeper
    finally:
        await keeper.stop(at_once=False)


async def until_ready(keeper: Keeper) -> None:
    async with asyncio.timeout(10):
        while not keeper.ready:
            await asyncio.sleep(0.01)


class Held:
    """A submission and what was delivered of it."""

    def __init__(self, desk: Desk, sequences: list[tuple[list[int], Sampling]]) -> None:
        self.mailbox = Mailbox()
        self.submission = desk.submit(sequences, self.mailbox.put)


async def read_all(held: Held) -> list[Delta]:
    deltas: list[Delta] = []
    open_ids = {generation.id for generation in held.submission.generations}
    async with asyncio.timeout(10):
        while open_ids:
            for delta in await held.mailbox.take():
                deltas.append(delta)
                if delta.finish is not None:
                    open_ids.discard(delta.id)
    return deltas


def pid(keeper: Keeper) -> int:
    assert keeper.pid is not None
    return keeper.pid


async def test_requests_submitted_before_the_engine_is_ready_are_answered() -> None:
    async with keeping(msgspec.structs.replace(ECHO, options={"load": "0.5"})) as keeper:
        submission = Held(keeper.desk, [([5, 6, 7], Sampling(max_tokens=4))])
        assert not keeper.ready
        deltas = await read_all(submission)
    assert [token for delta in deltas for token in delta.tokens] == [5, 6, 7, 5]
    assert deltas[-1].finish == "length"


async def test_sequences_of_one_submission_come_back_under_their_own_ids() -> None:
    async with keeping() as keeper:
        submission = Held(keeper.desk, [([i, i + 1], Sampling(max_tokens=2)) for i in range(0, 40, 2)])
        deltas = await read_all(submission)
    for index, generation in enumerate(submission.submission.generations):
        tokens = [t for delta in deltas if delta.id == generation.id for t in delta.tokens]
        assert tokens == [2 * index, 2 * index + 1]


async def test_a_killed_runner_ends_what_streamed_and_retries_what_had_no_token() -> None:
    async with keeping() as keeper:
        await until_ready(keeper)
        streaming = [Held(keeper.desk, [([1], Sampling(max_tokens=4000))]) for _ in range(16)]
        for submission in streaming:
            assert (await submission.mailbox.take())[0].tokens == [1]
        os.kill(pid(keeper), signal.SIGSTOP)
        waiting = Held(keeper.desk, [([2], Sampling(max_tokens=3))])
        os.kill(pid(keeper), signal.SIGKILL)
        for submission in streaming:
            last = (await read_all(submission))[-1]
            assert last.finish == "error"
            assert "SIGKILL" in last.error
        assert [t for delta in await read_all(waiting) for t in delta.tokens] == [2, 2, 2]
        assert keeper.ready
        assert len(keeper.desk) == 0


async def test_what_was_retried_once_is_not_retried_again() -> None:
    config = msgspec.structs.replace(ECHO, options={"delay": "1"})  # no token before the runner is killed
    async with keeping(config) as keeper:
        await until_ready(keeper)
        submission = Held(keeper.desk, [([2], Sampling(max_tokens=3))])
        for _ in range(2):
            await until_ready(keeper)
            os.kill(pid(keeper), signal.SIGKILL)
            async with asyncio.timeout(10):
                while keeper.ready:
                    await asyncio.sleep(0.005)
        deltas = await read_all(submission)
    assert [delta.finish for delta in deltas] == ["error"]


async def test_a_runner_that_keeps_dying_is_given_up_for_requests_and_tried_again() -> None:
    async with keeping(policy=RestartPolicy(first=0.3, second=0.3, longest=0.3)) as keeper:
        for _ in range(3):
            await until_ready(keeper)
            dying = pid(keeper)
            os.kill(dying, signal.SIGKILL)
            async with asyncio.timeout(10):
                while keeper.pid == dying:
                    await asyncio.sleep(0.005)
        refusal = keeper.refusal()
        assert keeper.state is State.FAILED
        assert isinstance(refusal, OpenLLMError)
        assert refusal.status == 503
        await until_ready(keeper)
        assert keeper.refusal() is None


async def test_a_wedged_runner_is_not_ready() -> None:
    async with keeping(stall_seconds=0.3) as keeper:
        await until_ready(keeper)
        os.kill(pid(keeper), signal.SIGSTOP)
        assert keeper.ready  # it has nothing to do
        Held(keeper.desk, [([1], Sampling(max_tokens=3))])
        await asyncio.sleep(0.5)
        assert keeper.wedged
        assert not keeper.ready
        os.kill(pid(keeper), signal.SIGCONT)
        await asyncio.sleep(0.3)
        assert keeper.ready


async def test_cancelled_sequences_leave_the_runner() -> None:
    async with keeping() as keeper:
        await until_ready(keeper)
        submissions = [Held(keeper.desk, [([1], Sampling(max_tokens=4000))]) for _ in range(50)]
        await submissions[-1].mailbox.take()
        for submission in submissions:
            keeper.desk.cancel(submission.submission)
        assert keeper.desk.counts() == (0, 0)
        after = Held(keeper.desk, [([9], Sampling(max_tokens=1))])
        assert (await read_all(after))[-1].tokens == [9]


async def test_an_engine_that_cannot_load_is_fatal_with_its_own_error() -> None:
    async with keeping(msgspec.structs.replace(ECHO, options={"delay": "much"})) as keeper:
        held = Held(keeper.desk, [([1], Sampling(max_tokens=3))])
        async with asyncio.timeout(10):
            error = await keeper.fatal
        assert error.code == "unsupported_option"
        assert (await read_all(held))[-1].finish == "error"


async def test_stopping_leaves_no_process() -> None:
    async with keeping() as keeper:
        await until_ready(keeper)
        child = pid(keeper)
    assert not psutil.pid_exists(child)


@pytest.mark.parametrize(
    ("failures", "delay"), [(1, 0.0), (2, 1.0), (3, 2.0), (4, 4.0), (8, 30.0), (1000, 30.0)]
)
def test_restart_delays_double_up_to_the_longest(failures: int, delay: float) -> None:
    assert RestartPolicy().delay(failures) == delay


def test_a_long_life_wipes_out_earlier_failures() -> None:
    policy = RestartPolicy(healthy_after=60)
    assert policy.failures(5, 61.0) == 1
    assert policy.failures(5, 59.0) == 6
    assert policy.failures(5, None) == 6
