"""Several real runners of one model with the echo engine, kept by a real keeper."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterable

import msgspec
import psutil
import pytest

from openllm.engines.base import AdapterFiles, Sampling
from openllm.errors import InvalidAdapter
from openllm.fleet.adapters import Adapters, Served
from openllm.fleet.keeper import Keeper
from openllm.fleet.replica import Replica
from openllm.fleet.restart import RestartPolicy
from openllm.fleet.state import State
from openllm.fleet.template import TemplateSpawner, can_fork
from openllm.fleet.upkeep import Upkeep
from openllm.fleet.watch import Patience
from openllm.runner.wire import AdapterDone, Failed, LoadAdapter, ToRunner, UnloadAdapter
from tests.fleet.keeping import ECHO, keeping
from tests.fleet.test_keeper import GARBAGE, Held, babbling, read_all
from tests.fleet.test_sleep import ask, until, until_asleep

ENDLESS = Sampling(max_tokens=4000)


class CountingGate:
    """Lets everyone in; says who is inside."""

    def __init__(self) -> None:
        self.entered = self.left = 0

    async def enter(self) -> bool:
        self.entered += 1
        await asyncio.sleep(0.05)
        return True

    def leave(self) -> None:
        self.left += 1

    def changed(self) -> None:
        """Nothing is decided."""


async def kill(replica: Replica) -> None:
    """End its runner, and wait until that is noticed."""
    victim = pid(replica)
    os.kill(victim, signal.SIGKILL)
    await until(lambda: replica.pid != victim)


async def until_all_ready(keeper: Keeper) -> None:
    await until(lambda: all(each.ready for each in keeper.replicas))


async def fall_asleep(keeper: Keeper) -> None:
    keeper.keep_alive = 0.0
    assert await ask(keeper) == [5, 6, 7]
    await until_asleep(keeper)


def pid(replica: Replica) -> int:
    assert replica.pid is not None
    return replica.pid


async def streams(keeper: Keeper, count: int) -> dict[Replica, list[Held]]:
    """Streams that have begun, by the replica that has them."""
    held = [Held(keeper.desk, [([number], ENDLESS)]) for number in range(count)]
    for each in held:
        await each.mailbox.take()
    posts = keeper.desk.posts
    return {
        replica: [each for each in held if each.submission.open_ids & posts[replica.number].at_runner]
        for replica in keeper.replicas
    }


def untouched(held: Iterable[Held]) -> bool:
    return all(each.submission.open_ids for each in held)


async def test_the_streams_of_the_others_go_on_when_one_is_killed_and_it_comes_back() -> None:
    async with keeping(replicas=3) as keeper:
        await until_all_ready(keeper)
        having = await streams(keeper, 15)
        victim = keeper.replicas[1]
        others = [each for replica, held in having.items() if replica is not victim for each in held]
        assert [len(held) for held in having.values()] == [5, 5, 5]
        dying = pid(victim)
        os.kill(dying, signal.SIGSTOP)
        waiting = [Held(keeper.desk, [([7, 8], Sampling(max_tokens=3))]) for _ in range(6)]
        assert keeper.desk.posts[1].at_runner - {
            g.id for h in having[victim] for g in h.submission.generations
        }
        os.kill(dying, signal.SIGKILL)
        for each in waiting:
            assert [t for delta in await read_all(each) for t in delta.tokens] == [7, 8, 7]
        assert keeper.state is State.READY
        for each in having[victim]:
            last = (await read_all(each))[-1]
            assert (last.finish, "SIGKILL" in last.error) == ("error", True)
        await until_all_ready(keeper)
        assert pid(victim) != dying
        assert [each.restarts for each in keeper.replicas] == [0, 1, 0]
        assert untouched(others)
        for each in others:
            keeper.desk.cancel(each.submission)


async def test_one_that_hangs_is_ended_alone() -> None:
    async with keeping(patience=Patience(stall=0.4), replicas=2) as keeper:
        await until_all_ready(keeper)
        having = await streams(keeper, 4)
        hung, other = keeper.replicas
        os.kill(pid(hung), signal.SIGSTOP)
        await until(lambda: not hung.ready)
        assert keeper.ready
        for each in having[hung]:
            assert "it hung" in (await read_all(each))[-1].error
        await until_all_ready(keeper)
        assert untouched(having[other])


async def test_one_that_sends_garbage_is_ended_alone() -> None:
    told: list[str] = []
    early = babbling(GARBAGE["tokens for nobody"])
    async with keeping(early=early, tell=told.append, replicas=2) as keeper:
        await until_all_ready(keeper)
        assert await ask(keeper) == [5, 6, 7]
    assert any(line.startswith("replica 0: ") and "garbage" in line for line in told)


async def test_one_that_keeps_dying_leaves_the_model_ready_and_all_that_do_fail_it() -> None:
    slow = RestartPolicy(first=0.3, second=0.3, longest=0.3)
    async with keeping(policy=slow, replicas=2) as keeper:
        await until_all_ready(keeper)
        dying = keeper.replicas[0]
        for _ in range(3):
            await until(lambda: dying.ready)
            await kill(dying)
        await until(lambda: keeper.replicas[0].state is State.FAILED)
        assert keeper.ready
        assert keeper.refusal() is None
        assert keeper.doing == "serving with 1 of 2 replicas"
        assert await ask(keeper) == [5, 6, 7]
        await until_all_ready(keeper)


async def test_a_request_that_kills_three_runners_is_given_up() -> None:
    config = msgspec.structs.replace(ECHO, options={"delay": "1"})  # no token before a runner is killed
    async with keeping(config, replicas=2) as keeper:
        await until_all_ready(keeper)
        poison = Held(keeper.desk, [([2], Sampling(max_tokens=3))])

        def holder() -> Replica | None:
            return next((each for each in keeper.replicas if keeper.desk.posts[each.number].at_runner), None)

        for _ in range(3):
            await until(lambda: holder() is not None)
            replica = holder()
            assert replica is not None
            await kill(replica)
        (delta,) = await read_all(poison)
        assert "3 times" in delta.error
        assert keeper.refusal() is None


async def test_all_sleep_and_wake_together() -> None:
    gate = CountingGate()
    async with keeping(gate=gate, replicas=3) as keeper:
        await until_all_ready(keeper)
        before = keeper.pids
        await fall_asleep(keeper)
        assert keeper.pids == ()
        assert not [each for each in before if psutil.pid_exists(each)]
        assert (gate.entered, gate.left) == (1, 1)  # one place in memory for all
        assert await ask(keeper) == [5, 6, 7]
        await until_all_ready(keeper)
        assert (keeper.wakes, keeper.restarts, gate.entered) == (1, 0, 2)


async def test_it_sleeps_though_one_is_waiting_to_be_started_again() -> None:
    async with keeping(policy=RestartPolicy(first=30.0), replicas=2) as keeper:
        await until_all_ready(keeper)
        os.kill(pid(keeper.replicas[0]), signal.SIGKILL)
        await until(lambda: keeper.replicas[0].state is State.WAITING)
        await fall_asleep(keeper)
        assert await ask(keeper) == [5, 6, 7]
        await until_all_ready(keeper)


async def test_on_demand_those_that_die_with_nothing_to_do_are_not_started_again() -> None:
    async with keeping(upkeep=Upkeep(on_demand=True), policy=RestartPolicy(first=0.5), replicas=2) as keeper:
        await until_asleep(keeper)
        assert keeper.pids == ()
        assert await ask(keeper) == [5, 6, 7]
        await until_all_ready(keeper)
        for replica in keeper.replicas:
            os.kill(pid(replica), signal.SIGKILL)
        await until_asleep(keeper)
        assert await ask(keeper) == [5, 6, 7]
        await until_all_ready(keeper)


async def test_an_engine_that_cannot_load_is_fatal_and_nothing_is_left() -> None:
    async with keeping(msgspec.structs.replace(ECHO, options={"delay": "much"}), replicas=3) as keeper:
        async with asyncio.timeout(10):
            error = await keeper.fatal
        assert error.code == "unsupported_option"
        assert keeper.pids == ()


async def test_stopping_while_they_load_leaves_no_process() -> None:
    async with keeping(msgspec.structs.replace(ECHO, options={"load": "0.5"}), replicas=3) as keeper:
        await until_all_ready(keeper)
        for replica in keeper.replicas[:2]:
            os.kill(pid(replica), signal.SIGKILL)
        await until(lambda: all(each.state is State.STARTING for each in keeper.replicas[:2]))


@pytest.mark.skipif(not can_fork(), reason="there are no template processes on this system")
async def test_a_template_forks_all_of_them() -> None:
    spawner = TemplateSpawner(print)
    try:
        async with keeping(spawner=spawner, replicas=3) as keeper:
            await until_all_ready(keeper)
            assert len(set(keeper.pids)) == 3
            (template,) = spawner.pids()
            assert template not in keeper.pids
            os.kill(pid(keeper.replicas[2]), signal.SIGKILL)
            await until(lambda: not keeper.replicas[2].ready)
            await until_all_ready(keeper)
            assert await ask(keeper) == [5, 6, 7]
            assert spawner.pids() == [template]
    finally:
        spawner.close()


SQL, FR = AdapterFiles("sql", "/sql"), AdapterFiles("fr", "/fr")


class Runners:
    """What two runners were told of adapters, and what they answer."""

    def __init__(self, *loaded: AdapterFiles) -> None:
        self.answering = 0
        self.adapters = Adapters([Served(each.name, each.path) for each in loaded], lambda _: self.answering)
        self.adapters.begin(loaded)
        self.sent: list[list[ToRunner]] = [[], []]

    def open(self, replica: int) -> None:
        self.adapters.files_for(replica)
        self.adapters.open(self.sent[replica].append, replica)

    async def told(self) -> list[list[ToRunner]]:
        """What each was told since the last look."""
        await asyncio.sleep(0)
        sent = [list(each) for each in self.sent]
        for each in self.sent:
            each.clear()
        return sent


async def test_an_adapter_is_loaded_into_every_runner_and_unloaded_from_it() -> None:
    runners = Runners()
    runners.open(0)
    runners.open(1)
    loading = asyncio.create_task(runners.adapters.load(Served("sql", "x"), SQL))
    assert await runners.told() == [[LoadAdapter(SQL)], [LoadAdapter(SQL)]]
    runners.adapters.done(AdapterDone("sql"), 0)
    await asyncio.sleep(0)
    assert "sql" not in runners.adapters
    runners.adapters.done(AdapterDone("sql"), 1)
    await loading
    assert "sql" in runners.adapters
    unloading = asyncio.create_task(runners.adapters.unload("sql"))
    assert await runners.told() == [[UnloadAdapter("sql")], [UnloadAdapter("sql")]]
    runners.adapters.done(AdapterDone("sql"), 0)
    runners.adapters.done(AdapterDone("sql"), 1)
    await unloading


async def test_an_adapter_that_one_runner_refuses_is_kept_by_none() -> None:
    runners = Runners()
    runners.open(0)
    runners.open(1)
    loading = asyncio.create_task(runners.adapters.load(Served("sql", "x"), SQL))
    await runners.told()
    runners.adapters.done(AdapterDone("sql"), 0)
    runners.adapters.done(AdapterDone("sql", Failed("InvalidAdapter", "too wide", None)), 1)
    await asyncio.sleep(0)
    assert await runners.told() == [[UnloadAdapter("sql")], []]
    runners.adapters.done(AdapterDone("sql"), 0)
    with pytest.raises(InvalidAdapter, match="too wide"):
        await loading
    assert "sql" not in runners.adapters


async def test_a_runner_that_dies_while_an_adapter_is_loaded_gets_it_at_its_next_start() -> None:
    runners = Runners()
    runners.open(0)
    runners.open(1)
    loading = asyncio.create_task(runners.adapters.load(Served("sql", "x"), SQL))
    await runners.told()
    runners.adapters.close(1)
    runners.adapters.done(AdapterDone("sql"), 0)
    await loading
    assert runners.adapters.files_for(1) == (SQL,)
    runners.adapters.open(runners.sent[1].append, 1)
    assert await runners.told() == [[], []]


async def test_a_runner_that_becomes_ready_late_is_told_what_has_changed_meanwhile() -> None:
    runners = Runners(SQL)
    runners.open(0)
    assert runners.adapters.files_for(1) == (SQL,)
    for change, name in (
        (runners.adapters.load(Served("fr", "x"), FR), "fr"),
        (runners.adapters.unload("sql"), "sql"),
    ):
        task = asyncio.create_task(change)
        await asyncio.sleep(0)
        runners.adapters.done(AdapterDone(name), 0)
        await task
    runners.adapters.open(runners.sent[1].append, 1)
    assert (await runners.told())[1] == [UnloadAdapter("sql"), LoadAdapter(FR)]
