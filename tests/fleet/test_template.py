"""Real template processes and the runners that they fork, most with the echo engine."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import psutil
import pytest

from openllm.chat.tokenizer import load_tokenizer
from openllm.engines.base import EngineConfig, Sampling
from openllm.fleet.forked import ForkedChild
from openllm.fleet.keeper import Keeper
from openllm.fleet.spawn import Spawned
from openllm.fleet.state import State
from openllm.fleet.template import TemplateSpawner, can_fork
from openllm.fleet.upkeep import Upkeep
from openllm.fleet.watch import Patience
from openllm.runner.wire import Born, Frames, Load, Ready, Stop, decode_to_front, frame
from openllm.weights.store import default_root
from tests.fleet.keeping import ECHO, keeping
from tests.fleet.test_keeper import Held, pid, read_all, until_ready
from tests.serving import MODEL, serving

pytestmark = pytest.mark.skipif(not can_fork(), reason="there are no template processes on this system")
_FORKS = 50


class Told:
    """A spawner, and what it told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.spawner = TemplateSpawner(self.lines.append)

    @property
    def template(self) -> psutil.Process:
        (only,) = self.spawner.pids()
        return psutil.Process(only)


@pytest.fixture
def told() -> Iterator[Told]:
    told = Told()
    yield told
    told.spawner.close()
    assert not told.spawner.pids()


@asynccontextmanager
async def forking(
    told: Told,
    early: Spawned | None = None,
    config: EngineConfig = ECHO,
    upkeep: Upkeep | None = None,
    patience: Patience | None = None,
) -> AsyncIterator[Keeper]:
    """A keeper whose runners the template forks; ready, unless it may sleep."""
    async with keeping(
        config, patience=patience, upkeep=upkeep, spawner=told.spawner, early=early, tell=told.lines.append
    ) as keeper:
        if upkeep is None:
            await until_ready(keeper, 10 if config is ECHO else 120)
        yield keeper


async def until_asleep(keeper: Keeper) -> None:
    async with asyncio.timeout(60):  # an engine takes long to end on a busy machine
        while keeper.state is not State.ASLEEP:
            await asyncio.sleep(0.005)


async def echoed(keeper: Keeper) -> list[int]:
    deltas = await read_all(Held(keeper.desk, [([5, 6, 7], Sampling(max_tokens=4))]))
    return [token for delta in deltas for token in delta.tokens]


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


async def test_a_forked_runner_is_this_process_s_child_and_answers(told: Told) -> None:
    before = children()
    async with forking(told) as keeper:
        assert await echoed(keeper) == [5, 6, 7, 5]
        runner = psutil.Process(pid(keeper))
        assert runner.ppid() == os.getpid()
        assert runner.name() == "openllm-runner"
        assert runner.pid != told.template.pid
    assert not psutil.pid_exists(runner.pid)
    assert children() - before == {told.template.pid}


async def test_two_runners_of_one_template_live_and_die_apart(told: Told) -> None:
    async with forking(told) as one, forking(told) as other:
        assert len({pid(one), pid(other), told.template.pid}) == 3
        os.kill(pid(one), signal.SIGKILL)
        assert await echoed(other) == [5, 6, 7, 5]
        await until_ready(one)
        assert await echoed(one) == [5, 6, 7, 5]


async def test_a_runner_spawned_before_the_event_loop_is_kept(told: Told) -> None:
    early = told.spawner.spawn("echo")
    early.load(ECHO)
    async with forking(told, early) as keeper:
        assert keeper.pid == early.child.pid
        assert await echoed(keeper) == [5, 6, 7, 5]


async def test_how_a_runner_ended_is_told(told: Told) -> None:
    async with forking(told) as keeper:
        held = Held(keeper.desk, [([1], Sampling(max_tokens=4000))])
        await held.mailbox.take()
        os.kill(pid(keeper), signal.SIGSEGV)
        assert "SIGSEGV" in (await read_all(held))[-1].error
        await until_ready(keeper)


async def test_a_killed_template_leaves_its_runners_and_is_replaced(told: Told) -> None:
    async with forking(told) as one:
        first = told.template
        first.kill()
        assert await echoed(one) == [5, 6, 7, 5]
        async with forking(told) as other:
            assert await echoed(other) == [5, 6, 7, 5]
            assert told.template.pid != first.pid
            assert not psutil.pid_exists(first.pid)
        assert await echoed(one) == [5, 6, 7, 5]
    assert [line for line in told.lines if "starting another" in line]


async def test_a_template_that_was_of_no_use_is_not_replaced(told: Told) -> None:
    never = told.spawner.spawn("echo")
    told.template.kill()
    psutil.Process(told.template.pid).wait(5)
    async with forking(told, never) as keeper:  # finds that it never was, and starts again
        assert not told.spawner.pids()
        assert await echoed(keeper) == [5, 6, 7, 5]
    assert [line for line in told.lines if "starting plainly" in line]


async def test_a_template_outlives_the_sleep_of_its_runners(told: Told) -> None:
    before = children()
    async with forking(told, upkeep=Upkeep(idle_seconds=0.0, on_demand=True)) as keeper:
        told.spawner.prepare("echo")
        template = told.template.pid
        for wakes in (1, 2, 3):
            assert await echoed(keeper) == [5, 6, 7, 5]
            await until_asleep(keeper)
            assert keeper.wakes == wakes
            assert children() - before == {template}
        assert keeper.restarts == 0


async def test_a_template_killed_in_its_runners_sleep_is_replaced_by_the_next_request(told: Told) -> None:
    before = children()
    async with forking(told, upkeep=Upkeep(idle_seconds=0.0, on_demand=True)) as keeper:
        assert await echoed(keeper) == [5, 6, 7, 5]
        await until_asleep(keeper)
        first = told.template
        first.kill()
        assert await echoed(keeper) == [5, 6, 7, 5]
        await until_asleep(keeper)
        assert told.template.pid != first.pid
        assert children() - before == {told.template.pid}


async def test_a_template_killed_at_any_moment_of_a_fork_costs_no_answer_and_leaves_nothing(
    told: Told,
) -> None:
    chance, before = random.Random(0), children()
    async with forking(told, upkeep=Upkeep(idle_seconds=0.0, on_demand=True)) as keeper:
        for _ in range(8):
            assert await echoed(keeper) == [5, 6, 7, 5]
            await until_asleep(keeper)
            held = Held(keeper.desk, [([5], Sampling(max_tokens=1))])
            await asyncio.sleep(chance.uniform(0.0, 0.012))
            told.template.kill()
            assert (await read_all(held))[-1].finish == "length"
            await until_asleep(keeper)
    told.spawner.close()
    assert children() == before


async def test_a_template_that_hangs_is_replaced(told: Told) -> None:
    upkeep, patience = Upkeep(idle_seconds=0.0, on_demand=True), Patience(load=0.5)
    async with forking(told, upkeep=upkeep, patience=patience) as keeper:
        assert await echoed(keeper) == [5, 6, 7, 5]
        await until_asleep(keeper)
        first = told.template
        first.suspend()
        assert await echoed(keeper) == [5, 6, 7, 5]
        assert keeper.restarts == 1
        assert told.template.pid != first.pid
        assert not psutil.pid_exists(first.pid)


def test_forks_leave_nothing_behind(told: Told) -> None:
    once = _life(told)
    assert once == 0
    template, front = told.template, psutil.Process()
    before = template.num_fds(), front.num_fds(), children()
    assert [_life(told) for _ in range(_FORKS)] == [0] * _FORKS
    assert (template.num_fds(), front.num_fds(), children()) == before
    assert not template.children()


def _life(told: Told) -> int | None:
    """A runner from its fork to its end, by hand; its exit status."""
    spawned = told.spawner.spawn("echo")
    with spawned.sock as sock:
        sock.settimeout(10)
        frames = Frames()
        sock.sendall(frame(Load(ECHO)))
        ready = False
        while not ready:
            for message in map(decode_to_front, frames.feed(sock.recv(4096))):
                ready = ready or isinstance(message, Ready)
                if isinstance(message, Born):
                    assert isinstance(spawned.child, ForkedChild)
                    spawned.child.born(message.pid)
        sock.sendall(frame(Stop()))
        while sock.recv(4096):
            pass
    deadline = time.monotonic() + 60
    while (status := spawned.child.poll()) is None and time.monotonic() < deadline:
        time.sleep(0.005)
    return status


@pytest.mark.parametrize("engine", ["openvino", "vllm"])
async def test_a_real_engine_wakes_from_a_template(engine: str, told: Told, smollm2_gguf: Path) -> None:
    """Twice, as the first runner must leave the template fit for the second."""
    pytest.importorskip("openvino_genai" if engine == "openvino" else "vllm")
    config = msgspec.structs.replace(
        ECHO, engine=engine, path=str(smollm2_gguf), tokenizer=str(smollm2_gguf), options={}, name=engine,
        quantization="int8" if engine == "openvino" else "none", dtype="auto" if engine == "openvino" else "float32",
        context=512, max_sequences=4, kv_cache_bytes=64 << 20, threads=2, cache=str(default_root()),
    )  # fmt: skip
    tokenizer = load_tokenizer(smollm2_gguf)
    prompt = tokenizer.encode("The capital of France is", add_special_tokens=False)
    async with forking(told, config=config, upkeep=Upkeep(idle_seconds=0.0, on_demand=True)) as keeper:
        for wakes in (1, 2):
            held = Held(keeper.desk, [(prompt, Sampling(max_tokens=4, temperature=0.0))])
            deltas = await read_all(held, seconds=120)
            assert "Paris" in tokenizer.decode([token for delta in deltas for token in delta.tokens])
            await until_asleep(keeper)
            assert (keeper.wakes, keeper.restarts) == (wakes, 0)
        assert not told.template.children()
    assert not [line for line in told.lines if "template" in line]


_FRONT = """
import sys, time
from openllm.fleet.template import TemplateSpawner
from openllm.runner.wire import Frames, decode_to_front
spawner = TemplateSpawner(print)
runners = [spawner.spawn("echo") for _ in range(2)]
for runner in runners:
    runner.sock.setblocking(True)
    (payload,) = Frames().feed(runner.sock.recv(4096))
    print(decode_to_front(payload).pid)
print(*spawner.pids(), flush=True)
time.sleep(60)
"""


def test_a_killed_front_leaves_neither_runner_nor_template() -> None:
    with subprocess.Popen([sys.executable, "-c", _FRONT], stdout=subprocess.PIPE, text=True) as front:
        assert front.stdout is not None
        family = [psutil.Process(int(front.stdout.readline())) for _ in range(3)]
        front.kill()
    psutil.wait_procs(family, timeout=10)
    assert not [each for each in family if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize(
    ("options", "forks"),
    [
        ((), False),
        (("--idle-timeout", "1h"), True),
        (("--idle-timeout", "-1"), False),
        (("--start-asleep",), True),
        (("--start-asleep", "--no-template"), False),
    ],
)
def test_a_template_comes_by_itself_where_runners_are_started_on_demand(
    options: tuple[str, ...], forks: bool
) -> None:
    with serving(MODEL, "--backend", "echo", *options) as server:
        assert server.client.completions.create(model=MODEL, prompt="Hi there", max_tokens=2).choices[0].text
        names = sorted(child.name() for child in psutil.Process(server.process.pid).children())
        assert names == ["openllm-runner", *(["openllm-templat"] if forks else [])]


def test_start_with_a_template_replaces_a_killed_runner_and_ends_with_all() -> None:
    with serving(MODEL, "--backend", "echo", "--template") as server:
        server.until_ready()
        names = {child.pid: child.name() for child in psutil.Process(server.process.pid).children()}
        assert sorted(names.values()) == ["openllm-runner", "openllm-templat"]
        next(psutil.Process(pid) for pid, name in names.items() if name == "openllm-runner").kill()
        answer = server.client.completions.create(model=MODEL, prompt="Hi there", max_tokens=2)
        assert answer.choices[0].text == "Hi there"
        assert server.metric("openllm_runner_restarts_total") == 1
        assert server.stop() == 0  # which looks for what is left


_THREADED = """
import sys, threading, time
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
from openllm.runner.template import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_template_with_threads_becomes_the_runner_itself() -> None:
    ours, theirs = socket.socketpair()
    front, runner = socket.socketpair()
    argv = [sys.executable, "-c", _THREADED, str(theirs.fileno()), str(os.getpid()), "echo"]
    process = subprocess.Popen(argv, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE, text=True)
    with ours, theirs, front, runner, process:
        theirs.close()
        socket.send_fds(ours, [b"f"], [runner.fileno()])
        runner.close()
        front.settimeout(10)
        (payload,) = Frames().feed(front.recv(4096))
        assert decode_to_front(payload) == Born(process.pid)
        front.close()
        _, said = process.communicate(timeout=10)
    assert "cannot be forked" in said
    assert process.returncode == 0
