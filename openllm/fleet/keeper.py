"""Keeps one model's runner: starts it, watches it, starts it again, lets it sleep. The one writer of its state."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import NoReturn

import msgspec

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
from openllm.fleet.restart import RestartPolicy
from openllm.fleet.spawn import PlainSpawner, Spawned, Spawner
from openllm.fleet.state import State
from openllm.fleet.upkeep import Gate, NoPast, OpenGate, PastStarts, Upkeep
from openllm.fleet.wants import Wants
from openllm.fleet.watch import Patience
from openllm.runner.wire import AdapterDone, Failed, Progress, Ready, Step, ToFront, Vectors

_log = logging.getLogger("openllm.fleet")
_WAKING = (State.PULLING, State.QUEUED, State.STARTING)
# An encoder forms its batches itself, of texts of like length: it must see some to choose from. What it has is no
# longer shared fairly, so not too many.
_TEXTS_TO_CHOOSE_FROM = 4  # for each that a batch holds

Supply = Callable[[Tell], Awaitable[EngineConfig]]


class Keeper:
    """One model's runner and the requests that wait for it.

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
    ) -> None:
        self.desk = Desk(observer, clock)
        self.adapters = Adapters(adapters, self.desk.answering)
        self.course = Course(State.PULLING, "getting the weights", clock, past or NoPast())
        self.wants = Wants(self.desk, clock)
        self.idle_since = clock()
        self.restarts = self.wakes = 0
        self.loading_seconds = 0.0
        self.fatal: asyncio.Future[OpenLLMError] = asyncio.get_running_loop().create_future()
        self.setback: asyncio.Future[OpenLLMError] = asyncio.get_running_loop().create_future()
        self.upkeep = upkeep or Upkeep()
        self._supply = supply
        self._observer = observer
        self._spawner = spawner or PlainSpawner()
        self._policy = policy or RestartPolicy()
        self._patience = patience or Patience()
        self._tell = tell
        self._clock = clock
        self._past = past or NoPast()
        self._gate = gate or OpenGate()
        self._nap = Nap(NEVER if self.upkeep.pinned else self.upkeep.idle_seconds, self._doze)
        self._life = None if early is None else self._life_of(early)
        self._width = 0
        self._asleep = self.upkeep.on_demand  # is there to be no runner until one is asked for?
        self._woken_at: float | None = None
        self._was_ready = False
        self._retired = False
        self._excused = False
        self._task: asyncio.Task[None] | None = None
        self.desk.turned = self._look

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
    def pid(self) -> int | None:
        """The runner's process id, if there is one."""
        return None if self._life is None else self._life.pid

    @property
    def ready(self) -> bool:
        """Has the engine decoded a token or encoded a text, and is it not wedged?"""
        return self.state is State.READY and not self.wedged

    @property
    def available(self) -> bool:
        """Is it ready, or can it be soon if it is asked: asleep, or on the way from there?"""
        if self.state in (State.UNLOADING, State.ASLEEP):
            return True
        return self.ready or (self._woken_at is not None and self.state in _WAKING)

    @property
    def wedged(self) -> bool:
        """Has the engine had work and said nothing for too long?"""
        return 0 < self._patience.stall <= self.desk.silent_for()

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
                f"The model's runner is not available: {self.doing}.",
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
        """End the runner, politely unless ``at_once``; what is still open ends with an error."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._nap.end()
        self.course.become(State.STOPPED, "the server is stopping")
        self.adapters.close()
        self.desk.close("The server is stopping.")
        self.desk.fail_all("The server is stopping.")
        if self._life is not None:
            await self._end_life(self._life, politely=not at_once)

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
        """Life after life, for ever. Raises why the first one could not begin."""
        failures = 0
        self.adapters.begin(config.adapters)
        self.wants.fetched()
        if self._asleep and not self.wants.engine:  # the weights were all that was asked for
            await self._sleep()
        while True:
            if not await self._enter():
                await self._sleep()
                continue
            life = await self._live(msgspec.structs.replace(config, adapters=self.adapters.files))
            if self._retired:
                await self._end_life(life, politely=True)
                await self._sleep()
                continue
            ready_for = None if life.ready_at is None else self._clock() - life.ready_at
            error = await self._bury(life)
            failures = self._policy.failures(
                failures, ready_for, answered=self.desk.fruitful, excused=self._excused
            )
            if not self._was_ready and (life.failed or not self._policy.holds(failures)):
                raise error
            await self._wait(failures, error)
            if self.upkeep.on_demand and not len(self.desk):
                await self._sleep()

    async def _sleep(self) -> None:
        """Until something is wanted that needs the weights, or a runner if the weights are here."""
        self._asleep = True
        self._woken_at = None
        self.course.become(State.ASLEEP, "asleep; the next request wakes it")
        # The server collects seldom, so as not to be slow. Now is the time: else a crowd's remains stay for long.
        gc.collect()
        if self.upkeep.pinned:
            self.wants.ask_engine()
        await self.wants.until_any()
        self._woken_at = self._clock()

    async def _enter(self) -> bool:
        """Wait for memory; False if nobody wants the runner any more."""
        if self.state is not State.FAILED:
            self.course.become(State.QUEUED, "waiting for memory that other models have")
        return await self._gate.enter()

    async def _live(self, config: EngineConfig) -> Life:
        """One life of a runner, from its start to its end, or until it is retired."""
        self._asleep = self._retired = False
        self.wants.served()
        self._width = config.max_sequences * (1 if config.encoder is None else _TEXTS_TO_CHOOSE_FROM)
        self.course.load()
        state = State.STARTING if self.state is not State.FAILED else State.FAILED
        self.course.become(state, "starting the engine")
        life = self._life
        if life is None:
            spawned = self._spawner.spawn(config.engine, threads=config.threads)
            life = self._life = self._life_of(spawned)
        await life.begin(config, partial(self._receive, life))
        await life.until_over()
        return life

    def _life_of(self, spawned: Spawned) -> Life:
        return Life(spawned, patience=self._patience, clock=self._clock, silent_since=self.desk.silent_since)

    async def _bury(self, life: Life) -> OpenLLMError:
        """Reap the runner that ended; say why it did."""
        if self.state is not State.FAILED:
            self.course.become(State.WAITING, "the runner ended")
        self._nap.end()
        error = await life.bury()
        self._be_gone()
        self.adapters.close()
        self._excused = self.desk.close(f"The model's runner ended while it answered ({error.message}).")
        return error

    async def _wait(self, failures: int, error: OpenLLMError) -> None:
        self.restarts += 1
        self._observer.restarted()
        delay = self._policy.delay(failures)
        doing = f"{error.message}; starting again" + (f" in {delay:.0f} s" if delay else "")
        self._tell(doing)
        if self._policy.holds(failures):
            self.course.become(State.WAITING, doing)
        else:
            self.course.become(State.FAILED, doing)
            self.desk.fail_all(f"The model's runner ended {failures} times in a row ({error.message}).")
        await asyncio.sleep(delay)

    async def _rest(self, error: OpenLLMError, failures: int) -> None:
        """After a start on demand that failed: refuse for a while, then sleep as if nothing had been."""
        self._give_up(error, State.FAILED)
        self._tell(error.message)
        self._asleep = True
        self.wants.forget()
        self._gate.leave()
        await asyncio.sleep(max(self._policy.second, self._policy.delay(failures)))

    async def _end_life(self, life: Life, *, politely: bool) -> None:
        await life.end(politely=politely)
        self._be_gone()

    def _be_gone(self) -> None:
        """There is no process any more."""
        self._life = None
        self._gate.leave()

    def _give_up(self, error: OpenLLMError, state: State = State.STOPPED) -> None:
        self.course.become(state, error.message)
        self.desk.fail_all(error.message)
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
        self._gate.changed()

    def _doze(self) -> None:
        """Nothing was done for long enough."""
        if self.adapters.changing:
            self._nap.begin()
        elif self.state is State.READY and not len(self.desk):
            self._retire("nothing to do")

    def _retire(self, why: str) -> None:
        """End the runner, which has nothing to answer. What comes from now on waits for the next one."""
        self._retired = True
        self.wants.served()
        self._nap.forget()
        self.course.become(State.UNLOADING, f"unloading: {why}")
        self.adapters.close()
        self.desk.close("The model is unloaded.")
        self._tell(self.doing)
        if self._life is not None:
            self._life.leave()

    def _progress(self, text: str, fraction: float | None) -> None:
        self.course.doing = text
        if fraction is not None:
            self.course.measure(fraction)

    def _receive(self, life: Life, message: ToFront) -> None:
        match message:
            case Step(deltas):
                self.desk.receive(deltas)
            case Vectors(vectors):
                self.desk.receive_vectors(vectors)
            case Ready(seconds):
                self._become_ready(life, seconds)
            case Progress(text):
                life.heard()
                self.course.doing = text
                self._tell(text)
            case Failed():
                life.fail(message)
            case AdapterDone():
                self._take_adapter(life, message)

    def _take_adapter(self, life: Life, message: AdapterDone) -> None:
        error = self.adapters.done(message)
        if error is None:
            return
        self._tell(f"the adapter {message.name} is not served: {error.message}")
        if not self._was_ready:
            # Whoever starts a server wants all of its adapters, or an error.
            life.reject(message.failed)

    def _become_ready(self, life: Life, seconds: float) -> None:
        now = life.become_ready()
        self.course.become(State.READY, "serving")
        self._was_ready = True
        self._tell(f"ready: engine loaded in {seconds:.1f} s")
        if self._woken_at is not None:
            self.wakes += 1
            self._observer.woke(now - self._woken_at)
            self._woken_at = None
        self.loading_seconds = now - life.began_at
        # Beside the event loop: the disk may be slow.
        asyncio.get_running_loop().run_in_executor(None, self._past.learn, self.loading_seconds)
        self.adapters.open(life.send)
        self.desk.open(life.send, self._width)
        self._look()
