"""Keeps one model: gets its weights, has its replicas run, lets it sleep. The one writer of its state."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import NoReturn

from openllm.engines.base import EngineConfig
from openllm.errors import OpenLLMError, RunnerFailed
from openllm.fleet.adapters import Adapters, Served
from openllm.fleet.course import Course
from openllm.fleet.desk import Desk
from openllm.fleet.duration import NEVER
from openllm.fleet.life import Life
from openllm.fleet.nap import Nap
from openllm.fleet.observer import Observer
from openllm.fleet.pulling import Tell
from openllm.fleet.replica import Replica, Shared
from openllm.fleet.restart import RestartPolicy
from openllm.fleet.shared_gate import SharedGate
from openllm.fleet.spawn import PlainSpawner, Spawned, Spawner
from openllm.fleet.state import State
from openllm.fleet.upkeep import Gate, NoPast, OpenGate, PastStarts, Upkeep
from openllm.fleet.wants import Wants
from openllm.fleet.watch import Patience
from openllm.machine.unused_memory import give_back

_log = logging.getLogger("openllm.fleet")
_WAKING = (State.PULLING, State.QUEUED, State.STARTING)
# The state of a model is the best of its replicas'.
_BEST = (State.READY, State.STARTING, State.WAITING, State.QUEUED, State.FAILED, State.ASLEEP)

Supply = Callable[[Tell], Awaitable[EngineConfig]]


class Keeper:
    """One model's runners, one for each of its ``replicas``, and the requests that wait for them.

    ``supply`` brings the weights and says what to load, reporting progress; it may take long, and is called again
    after it failed. ``early`` is a process that was spawned before the event loop ran, ``spawner`` starts the later
    ones. ``fatal`` is set when the first start fails for good, ``setback`` too, and also when one on demand fails; it
    is another future afterwards. ``tell`` receives what a user should know of, one line at a time. ``adapters`` may be
    named by requests from now on; ``supply`` says where they are. ``past`` knows how long a start takes; ``gate``
    shares memory with other models.
    """

    def __init__(
        self,
        supply: Supply,
        observer: Observer,
        *,
        early: Spawned | None = None,
        spawner: Spawner | None = None,
        policy: RestartPolicy | None = None,
        patience: Patience | None = None,
        upkeep: Upkeep | None = None,
        tell: Callable[[str], None] = _log.info,
        clock: Callable[[], float] = time.monotonic,
        adapters: Iterable[Served] = (),
        past: PastStarts | None = None,
        gate: Gate | None = None,
        replicas: int = 1,
    ) -> None:
        self.desk = Desk(observer, clock, replicas)
        self.adapters = Adapters(adapters, self.desk.answering)
        self.course = Course(State.PULLING, "getting the weights", clock, past or NoPast())
        self.wants = Wants(self.desk, clock)
        self.gate = SharedGate(gate or OpenGate())
        self.idle_since = clock()
        self.wakes = 0
        self.proven = False
        self.loading_seconds = 0.0
        self.fatal: asyncio.Future[OpenLLMError] = asyncio.get_running_loop().create_future()
        self.setback: asyncio.Future[OpenLLMError] = asyncio.get_running_loop().create_future()
        self.upkeep = upkeep or Upkeep()
        self._supply = supply
        self._observer = observer
        self._policy = policy or RestartPolicy()
        self._tell = tell
        self._clock = clock
        self._past = past or NoPast()
        self._nap = Nap(NEVER if self.upkeep.pinned else self.upkeep.idle_seconds, self._doze)
        self._others_may = asyncio.Event()  # begin, those that are not the first
        self._asleep = self.upkeep.on_demand  # is there to be no runner until one is asked for?
        self._woken_at: float | None = None
        self._task: asyncio.Task[None] | None = None
        self.desk.turned = self._look
        shared = Shared(
            self.desk,
            self.adapters,
            self.gate,
            observer,
            spawner or PlainSpawner(),
            self._policy,
            patience or Patience(),
            clock,
        )
        self.replicas = tuple(
            Replica(number, shared, self, tell if replicas == 1 else partial(_tell_of, number, tell))
            for number in range(replicas)
        )
        if early is not None:
            self.replicas[0].adopt(early)

    def start(self) -> None:
        """Begin; returns at once."""
        self._task = asyncio.create_task(self._run())

    @property
    def state(self) -> State:
        return self.course.state

    @property
    def doing(self) -> str:
        """In words."""
        return self.course.doing

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the runners that there are."""
        return tuple(each.pid for each in self.replicas if each.pid is not None)

    @property
    def pid(self) -> int | None:
        """The first of them."""
        return next(iter(self.pids), None)

    @property
    def ready(self) -> bool:
        """Has an engine decoded a token or encoded a text, and is it not wedged?"""
        return self.state is State.READY and any(each.ready for each in self.replicas)

    @property
    def restarts(self) -> int:
        """Runners that were started again."""
        return sum(each.restarts for each in self.replicas)

    @property
    def failed(self) -> bool:
        """Have the runners of all replicas ended too often?"""
        return all(each.state is State.FAILED for each in self.replicas)

    @property
    def available(self) -> bool:
        """Is it ready, or can it be soon if it is asked: asleep, or on the way from there?"""
        if self.state in (State.UNLOADING, State.ASLEEP):
            return True
        return self.ready or (self._woken_at is not None and self.state in _WAKING)

    @property
    def wedged(self) -> bool:
        """Have all engines that could answer had work and said nothing for too long?"""
        return self.state is State.READY and not self.ready

    @property
    def keep_alive(self) -> float:
        """Seconds without a request after which the runner is stopped; ``NEVER`` if it is not."""
        return self._nap.seconds

    @keep_alive.setter
    def keep_alive(self, seconds: float) -> None:
        """As a request has it, from its end on, until the runner is stopped or another request says otherwise."""
        if not self.upkeep.pinned:
            self._nap.seconds = seconds

    def refusal(self) -> OpenLLMError | None:
        """Why a new request would not be taken now, or None if it would."""
        if self.state in (State.FAILED, State.STOPPED):
            return RunnerFailed(
                f"The model's runner is not available: {self.doing.removesuffix('.')}.",
                hint="Try again later; see the server's log.",
            )
        return None

    def make_room(self) -> bool:
        """Stop the runner if it has nothing to answer, though requests may wait for it; False if it has."""
        if self.state is not State.READY or self.desk.at_runner or self.adapters.changing:
            return False
        self._retire("room is needed for another model")
        return True

    def idle_seconds(self) -> float:
        """Since the last request was over; 0 while there is one."""
        return 0.0 if len(self.desk) else self._clock() - self.idle_since

    async def until_ready(self) -> None:
        """Wake it, and wait until it answers. Raises why it cannot."""
        while self.state is not State.READY:
            refusal = self.refusal()
            if refusal is not None:
                raise refusal
            self.wants.ask_engine()
            await asyncio.wait([self.setback], timeout=0.02)

    async def stop(self, *, at_once: bool) -> None:
        """End the runners, politely unless ``at_once``; what is still open ends with an error."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._nap.end()
        self.gate.shut()
        self.course.become(State.STOPPED, "the server is stopping")
        self._close("The server is stopping.")
        self.desk.fail_all("The server is stopping.")
        await asyncio.gather(*(each.end(politely=not at_once) for each in self.replicas))

    async def _run(self) -> None:
        failures = 0
        while True:
            error = await self._try()
            failures += 1
            if not self.upkeep.on_demand:
                self._give_up(error)
                return
            await self._rest(error, failures)

    async def _try(self) -> OpenLLMError:
        """Serve for as long as that can be done; why it can no longer."""
        try:
            if self._asleep:
                await self._sleep()
            self.course.become(State.PULLING, "getting the weights")
            self.course.fetch()
            await self._keep(await self._supply(self._progress))
        except OpenLLMError as error:
            return error
        except Exception as error:
            _log.exception("the keeper failed")
            return OpenLLMError(f"The server made a mistake: {type(error).__name__}: {error}")

    async def _keep(self, config: EngineConfig) -> NoReturn:
        """Let it serve and sleep by turns, for ever. Raises why the first runner could not begin."""
        for replica in self.replicas:
            replica.forget()
        self.adapters.begin(config.adapters)
        self.wants.fetched()
        if self._asleep and not self.wants.engine:  # the weights were all that was asked for
            await self._sleep()
        while True:
            await self._serve(config)
            await self._sleep()

    async def _serve(self, config: EngineConfig) -> None:
        """Until there are to be no runners. Raises why the first one could not begin."""
        self.gate.unlock()
        if not self.proven:
            self._others_may.clear()
        running = [asyncio.create_task(self._run_replica(each, config)) for each in self.replicas]
        try:
            await asyncio.gather(*running)
        except BaseException as error:
            self.gate.shut()
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            if isinstance(error, Exception):  # else it is `stop` that ends them
                self._close("The model could not be started.")
                await asyncio.gather(*(each.end(politely=False) for each in self.replicas))
            raise

    async def _run_replica(self, replica: Replica, config: EngineConfig) -> None:
        """The others wait until the first runner of all has been ready: what is made once of the weights is there by
        then."""
        if replica.number:
            await self._others_may.wait()
        try:
            await replica.run(config)
        finally:
            self._others_may.set()

    async def _sleep(self) -> None:
        """Until something is wanted that needs the weights, or a runner if the weights are here."""
        self._asleep = True
        self._woken_at = None
        self.course.become(State.ASLEEP, "asleep; the next request wakes it")
        # The server collects seldom, so as not to be slow. Now is the time: else a crowd's remains stay for long.
        give_back()
        if self.upkeep.pinned:
            self.wants.ask_engine()
        await self.wants.until_any()
        self._woken_at = self._clock()

    def begins(self) -> None:
        """A replica is about to start a runner."""
        self._asleep = False
        self.wants.served()
        if self.state is not State.READY:
            self.course.load()

    def answers(self, life: Life) -> None:
        """A replica's runner has become ready, and has been given what it has room for."""
        assert life.ready_at is not None
        if sum(each.state is State.READY for each in self.replicas) > 1:
            self.gate.changed()
            return
        self.proven = True
        self._others_may.set()
        if self._woken_at is not None:
            self.wakes += 1
            self._observer.woke(life.ready_at - self._woken_at)
            self._woken_at = None
        self.loading_seconds = life.ready_at - life.began_at
        # Beside the event loop: the disk may be slow.
        asyncio.get_running_loop().run_in_executor(None, self._past.learn, self.loading_seconds)
        self._look()

    def follow(self) -> None:
        """The state of a replica has changed."""
        if self.gate.is_shut:
            return
        best = min(self.replicas, key=lambda each: _BEST.index(each.state))
        answering = sum(each.state is State.READY for each in self.replicas)
        if 0 < answering < len(self.replicas):
            self.course.become(State.READY, f"serving with {answering} of {len(self.replicas)} replicas")
        else:
            self.course.become(best.state, best.doing)
        if not answering:
            self._nap.end()

    def rests(self) -> bool:
        """After a runner's end: is none wanted? Then there are to be none."""
        if self.upkeep.on_demand and not len(self.desk) and not any(each.lives for each in self.replicas):
            self.gate.shut()
        return self.gate.is_shut

    async def _rest(self, error: OpenLLMError, failures: int) -> None:
        """After a start on demand that failed: refuse for a while, then sleep as if nothing had been."""
        self._give_up(error, State.FAILED)
        self._tell(error.told)
        self._asleep = True
        self.wants.forget()
        self.gate.clear()
        await asyncio.sleep(max(self._policy.second, self._policy.delay(failures)))

    def _give_up(self, error: OpenLLMError, state: State = State.STOPPED) -> None:
        self.course.become(state, error.told)
        self.desk.fail_all(error.told)
        setback, self.setback = self.setback, asyncio.get_running_loop().create_future()
        setback.set_result(error)
        if not self.upkeep.on_demand and not self.fatal.done():
            self.fatal.set_result(error)

    def _look(self) -> None:
        """Is there something to do, or nothing any more?"""
        if len(self.desk):
            self._nap.end()
            self.wants.stir()
        else:
            self.idle_since = self._clock()
            if self.state is State.READY:
                self._nap.begin()
        self.gate.changed()

    def _doze(self) -> None:
        """Nothing was done for long enough."""
        if self.adapters.changing:
            self._nap.begin()
        elif self.state is State.READY and not len(self.desk):
            self._retire("nothing to do")

    def _retire(self, why: str) -> None:
        """End the runners, which have nothing to answer. What comes from now on waits for the next ones."""
        self.wants.served()
        self._nap.forget()
        self.course.become(State.UNLOADING, f"unloading: {why}")
        self.gate.shut()
        self._close("The model is unloaded.")
        self._tell(self.doing)
        for replica in self.replicas:
            replica.leave()

    def _close(self, message: str) -> None:
        """No runner is given anything any more."""
        for replica in self.replicas:
            self.adapters.close(replica.number)
            self.desk.close(message, replica.number)

    def _progress(self, text: str, fraction: float | None) -> None:
        self.course.doing = text
        if fraction is not None:
            self.course.measure(fraction)


def _tell_of(replica: int, tell: Callable[[str], None], text: str) -> None:
    tell(f"replica {replica}: {text}")
