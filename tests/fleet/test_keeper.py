"""A real runner process with the echo engine, kept by a real keeper."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import subprocess
import sys

import msgspec
import psutil
import pytest

from openllm.engines.base import Delta, Sampling
from openllm.engines.encoding import Vector
from openllm.errors import OpenLLMError
from openllm.fleet.desk import Desk
from openllm.fleet.keeper import Keeper
from openllm.fleet.restart import RestartPolicy
from openllm.fleet.spawn import Spawned, spawn
from openllm.fleet.state import State
from openllm.fleet.watch import Patience
from openllm.runner.wire import Add, Ready, Step, Vectors, frame
from tests.fleet.keeping import ECHO, keeping
from tests.fleet.mailbox import Mailbox


async def until_ready(keeper: Keeper, seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not keeper.ready:
            await asyncio.sleep(0.01)


class Held:
    """A submission and what was delivered of it."""

    def __init__(self, desk: Desk, sequences: list[tuple[list[int], Sampling]]) -> None:
        self.mailbox = Mailbox()
        self.submission = desk.submit(sequences, self.mailbox.put)


async def read_all(held: Held, seconds: float = 10) -> list[Delta]:
    deltas: list[Delta] = []
    open_ids = {generation.id for generation in held.submission.generations}
    async with asyncio.timeout(seconds):
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


async def test_a_request_that_kills_three_runners_is_given_up_and_the_next_is_answered() -> None:
    config = msgspec.structs.replace(ECHO, options={"delay": "1"})  # no token before the runner is killed
    async with keeping(config) as keeper:
        submission = Held(keeper.desk, [([2], Sampling(max_tokens=3))])
        for _ in range(3):
            await until_ready(keeper)
            os.kill(pid(keeper), signal.SIGKILL)
            async with asyncio.timeout(10):
                while keeper.ready:
                    await asyncio.sleep(0.005)
        deltas = await read_all(submission)
        assert [delta.finish for delta in deltas] == ["error"]
        assert "3 times" in deltas[0].error
        assert keeper.refusal() is None
        after = Held(keeper.desk, [([7], Sampling(max_tokens=1))])
        assert (await read_all(after))[-1].tokens == [7]


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


async def test_a_runner_that_hangs_is_ended_and_another_goes_on() -> None:
    async with keeping(patience=Patience(stall=0.4)) as keeper:
        await until_ready(keeper)
        hung = pid(keeper)
        streaming = Held(keeper.desk, [([1], Sampling(max_tokens=4000))])
        await streaming.mailbox.take()
        os.kill(hung, signal.SIGSTOP)
        waiting = Held(keeper.desk, [([2], Sampling(max_tokens=3))])
        last = (await read_all(streaming))[-1]
        assert last.finish == "error"
        assert "it hung" in last.error
        assert [t for delta in await read_all(waiting) for t in delta.tokens] == [2, 2, 2]
        assert pid(keeper) != hung
        assert not psutil.pid_exists(hung)


async def test_a_runner_without_work_may_be_silent() -> None:
    async with keeping(patience=Patience(stall=0.2, load=0.2)) as keeper:
        await until_ready(keeper)
        quiet = pid(keeper)
        os.kill(quiet, signal.SIGSTOP)
        await asyncio.sleep(0.6)
        assert keeper.ready
        os.kill(quiet, signal.SIGCONT)
        after = Held(keeper.desk, [([9], Sampling(max_tokens=1))])
        assert (await read_all(after))[-1].tokens == [9]
        assert pid(keeper) == quiet


async def test_a_wedged_runner_is_not_ready_and_lives_if_nothing_is_to_be_watched() -> None:
    async with keeping(patience=Patience(stall=0, load=0)) as keeper:
        await until_ready(keeper)
        os.kill(pid(keeper), signal.SIGSTOP)
        held = Held(keeper.desk, [([1], Sampling(max_tokens=3))])
        await asyncio.sleep(0.5)
        assert keeper.ready
        os.kill(pid(keeper), signal.SIGCONT)
        assert [t for delta in await read_all(held) for t in delta.tokens] == [1, 1, 1]


async def test_a_runner_that_hangs_while_loading_is_started_again() -> None:
    config = msgspec.structs.replace(ECHO, options={"load": "0.3"})
    async with keeping(config, patience=Patience(load=0.8)) as keeper:
        async with asyncio.timeout(10):
            while keeper.doing != "loading the echo engine":
                await asyncio.sleep(0.01)
        hung = pid(keeper)
        os.kill(hung, signal.SIGSTOP)
        held = Held(keeper.desk, [([1], Sampling(max_tokens=2))])
        assert [t for delta in await read_all(held) for t in delta.tokens] == [1, 1]
        assert pid(keeper) != hung


BABBLER = """
import socket, sys, time
sock = socket.socket(fileno=int(sys.argv[1]))
sock.recv(1 << 20)  # what to load
sock.sendall(bytes.fromhex(sys.argv[2]))
time.sleep(60)
"""
"""A process in the place of a runner that sends these bytes as soon as it is told what to load."""


def babbling(sent: bytes) -> Spawned:
    ours, theirs = socket.socketpair()
    argv = [sys.executable, "-c", BABBLER, str(theirs.fileno()), sent.hex()]
    child = subprocess.Popen(argv, pass_fds=[theirs.fileno()])
    theirs.close()
    ours.setblocking(False)
    return Spawned(child, ours)


GARBAGE = {
    "a frame without end": b"\xff\xff\xff\xff",
    "no message": b"\x05\x00\x00\x00hello",
    "a message to a runner": frame(Add([])),
    "a negative token": frame(Ready(0.1)) + frame(Step([Delta(1, [-1])])),
    "tokens for nobody": frame(Ready(0.1)) + frame(Step([Delta(7, [1])])),
    "a vector for nobody": frame(Ready(0.1)) + frame(Vectors([Vector(7, b"1234")])),
    "tokens before it is ready": frame(Step([Delta(1, [1])])),
    "ready twice": frame(Ready(0.1)) * 2,
}


@pytest.mark.parametrize("sent", GARBAGE.values(), ids=GARBAGE.keys())
async def test_a_runner_that_sends_garbage_is_ended_and_another_answers(sent: bytes) -> None:
    babbler = babbling(sent)
    told: list[str] = []
    async with keeping(early=babbler, tell=told.append) as keeper:
        held = Held(keeper.desk, [([4], Sampling(max_tokens=2))])
        assert [t for delta in await read_all(held) for t in delta.tokens] == [4, 4]
        assert babbler.child.poll() == -signal.SIGKILL
    assert any("it sent garbage" in line for line in told)


async def test_a_runner_whose_memory_ran_out_says_so_and_another_goes_on() -> None:
    told: list[str] = []
    limited = spawn("echo")
    config = msgspec.structs.replace(ECHO, context=1 << 30)
    async with keeping(config, early=limited, tell=told.append) as keeper:
        await until_ready(keeper)
        size = psutil.Process(pid(keeper)).memory_info().vms
        resource.prlimit(pid(keeper), resource.RLIMIT_AS, (size + (32 << 20),) * 2)
        held = Held(keeper.desk, [([3] * 10_000_000, Sampling(max_tokens=1))])
        assert [t for delta in await read_all(held) for t in delta.tokens] == [3]
    assert any("the engine broke: it ran out of memory (MemoryError" in line for line in told)


async def test_a_runner_that_is_killed_at_each_start_ends_it_with_a_hint() -> None:
    async with keeping(msgspec.structs.replace(ECHO, options={"load": "30"})) as keeper:
        for _ in range(3):
            async with asyncio.timeout(10):
                while keeper.doing != "loading the echo engine":
                    await asyncio.sleep(0.01)
            os.kill(pid(keeper), signal.SIGKILL)
            async with asyncio.timeout(10):
                while keeper.doing == "loading the echo engine":
                    await asyncio.sleep(0.01)
        error = await keeper.fatal
    assert "SIGKILL, perhaps out of memory" in error.message
    assert "--kv-cache" in (error.hint or "")


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


def test_a_runner_that_answered_or_is_excused_counts_for_nothing() -> None:
    policy = RestartPolicy()
    assert policy.failures(2, 1.0, answered=True) == 0
    assert policy.failures(2, None, answered=True) == 3  # it was the one before that answered
    assert policy.failures(2, 1.0, excused=True) == 2
    assert policy.delay(0) == policy.delay(1) == 0.0
