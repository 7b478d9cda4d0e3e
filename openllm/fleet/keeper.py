"""Keeps one model's runner alive: starts it, watches it, starts it again. The one writer of its state."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable

import msgspec

from openllm.engines.base import EngineConfig
from openllm.errors import OpenLLMError, RunnerFailed
from openllm.fleet.adapters import Adapters, Served, as_error
from openllm.fleet.desk import Desk
from openllm.fleet.ending import ending, memory_kills
from openllm.fleet.garbage import Garbage
from openllm.fleet.observer import Observer
from openllm.fleet.process import RunnerProcess
from openllm.fleet.restart import RestartPolicy
from openllm.fleet.signs import signs
from openllm.fleet.spawn import PlainSpawner, Spawned, Spawner
from openllm.fleet.state import State
from openllm.fleet.watch import Patience, Watch
from openllm.runner.wire import AdapterDone, Failed, Load, Progress, Ready, Step, Stop, ToFront, Vectors

_log = logging.getLogger("openllm.fleet")
_STOP_SECONDS = 5.0
_LONGEST_GARBAGE = 300  # characters of what is told of it
# An encoder forms its batches itself, of texts of like length: it must see some to choose from. What it has is no
# longer shared fairly, so not too many.
_TEXTS_TO_CHOOSE_FROM = 4  # for each that a batch holds

Supply = Callable[[Callable[[str], None]], Awaitable[EngineConfig]]


class Keeper:
    """One model's runner and the requests that wait for it.

    ``supply`` brings the weights and says what to load, reporting progress as lines of text; it may take long.
    ``early`` is a process that was spawned before the event loop ran, ``spawner`` starts the later ones. ``fatal`` is
    set when the first start fails for good. ``tell`` receives what a user should know of, one line at a time.
    ``adapters`` may be named by requests from now on; ``supply`` says where they are.
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
        tell: Callable[[str], None] = _log.info,
        clock: Callable[[], float] = time.monotonic,
        adapters: Iterable[Served] = (),
    ) -> None:
        self.desk = Desk(observer, clock)
        self.adapters = Adapters(adapters, self.desk.answering)
        self.state = State.PULLING
        self.doing = "getting the weights"
        self.fatal: asyncio.Future[OpenLLMError] = asyncio.get_running_loop().create_future()
        self._supply = supply
        self._observer = observer
        self._spawner = spawner or PlainSpawner()
        self._policy = policy or RestartPolicy()
        self._patience = patience or Patience()
        self._tell = tell
        self._clock = clock
        self._process = None if early is None else RunnerProcess(early)
        self._width = 0
        self._ended = asyncio.Event()
        self._ready_at: float | None = None
        self._was_ready = False
        self._why: Failed | None = None
        self._cause = ""  # why we ended it ourselves
        self._excused = False
        self._memory_kills = 0
        self._heard_loading = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; returns at once."""
        self._task = asyncio.create_task(self._run())

    @property
    def pid(self) -> int | None:
        """The runner's process id, if there is one."""
        return None if self._process is None else self._process.pid

    @property
    def ready(self) -> bool:
        """Has the engine decoded a token or encoded a text, and is it not wedged?"""
        return self.state is State.READY and not self.wedged

    @property
    def wedged(self) -> bool:
        """Has the engine had work and said nothing for too long?"""
        return 0 < self._patience.stall <= self.desk.silent_for()

    def refusal(self) -> OpenLLMError | None:
        """Why a new request would not be taken now, or None if it would."""
        if self.state in (State.FAILED, State.STOPPED):
            return RunnerFailed(
                f"The model's runner is not available: {self.doing}.",
                hint="Try again later; see the server's log.",
            )
        return None

    async def stop(self, *, at_once: bool) -> None:
        """End the runner, politely unless ``at_once``; what is still open ends with an error."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self.state = State.STOPPED
        self.doing = "the server is stopping"
        self.adapters.close()
        self.desk.close("The server is stopping.")
        self.desk.fail_all("The server is stopping.")
        if self._process is not None:
            if not at_once:
                self._process.send(Stop())
                await self._process.wait(_STOP_SECONDS)
            await self._reap()

    async def _run(self) -> None:
        try:
            await self._keep(await self._supply(self._progress))
        except OpenLLMError as error:
            self._give_up(error)
        except Exception as error:
            _log.exception("the keeper failed")
            self._give_up(OpenLLMError(f"The server made a mistake: {type(error).__name__}: {error}"))

    async def _keep(self, config: EngineConfig) -> None:
        """Life after life. Raises why the first one could not begin."""
        failures = 0
        self.adapters.begin(config.adapters)
        while True:
            await self._live(msgspec.structs.replace(config, adapters=self.adapters.files))
            ready_for = None if self._ready_at is None else self._clock() - self._ready_at
            error = await self._bury()
            failures = self._policy.failures(
                failures, ready_for, answered=self.desk.fruitful, excused=self._excused
            )
            if not self._was_ready and (self._why is not None or not self._policy.holds(failures)):
                raise error
            await self._wait(failures, error)

    async def _live(self, config: EngineConfig) -> None:
        """One life of a runner, from its start to its end."""
        self._ended.clear()
        self._ready_at = None
        self._why = None
        self._cause = ""
        self._memory_kills = memory_kills()
        self._width = config.max_sequences * (1 if config.encoder is None else _TEXTS_TO_CHOOSE_FROM)
        self.state = State.STARTING if self.state is not State.FAILED else State.FAILED
        self.doing = "starting the engine"
        if self._process is None:
            self._process = RunnerProcess(self._spawner.spawn(config.engine, threads=config.threads))
        await self._process.attach(self._receive, self._ended.set, self._distrust)
        if not self._process.loading:
            self._process.send(Load(config))
        self._heard_loading = self._clock()
        watching = asyncio.create_task(self._watch(self._process))
        try:
            await self._ended.wait()
        finally:
            watching.cancel()

    async def _bury(self) -> OpenLLMError:
        """Reap the runner that ended; say why it did."""
        if self.state is not State.FAILED:
            self.state = State.WAITING
        status = await self._reap()
        if self._cause:
            error: OpenLLMError = RunnerFailed(f"the runner was ended: {self._cause}")
        elif self._why is not None:
            error = as_error(self._why)
        else:
            error = ending(status, memory_kills=memory_kills() - self._memory_kills)
        self.adapters.close()
        self._excused = self.desk.close(f"The model's runner ended while it answered ({error.message}).")
        return error

    async def _watch(self, process: RunnerProcess) -> None:
        """End the runner if it hangs."""
        between = self._patience.between_looks
        watch = Watch(self._patience)
        while between is not None:
            await asyncio.sleep(between)
            loading = self._ready_at is None
            since = self._heard_loading if loading else self.desk.silent_since()
            cause = watch.look(self._clock(), since, loading=loading, signs=lambda: signs(process.at_work))
            if cause is not None:
                self._end_for(cause)
                return

    def _distrust(self, garbage: str) -> None:
        """The runner sent what cannot be right."""
        self._end_for(f"it sent garbage: {garbage[:_LONGEST_GARBAGE]}")

    def _end_for(self, cause: str) -> None:
        """End the runner, which is not what it should be."""
        self._cause = self._cause or cause
        if self._process is not None:
            self._process.kill()
        self._ended.set()

    async def _wait(self, failures: int, error: OpenLLMError) -> None:
        self._observer.restarted()
        delay = self._policy.delay(failures)
        self.doing = f"{error.message}; starting again" + (f" in {delay:.0f} s" if delay else "")
        self._tell(self.doing)
        if self._policy.holds(failures):
            self.state = State.WAITING
        else:
            self.state = State.FAILED
            self.desk.fail_all(f"The model's runner ended {failures} times in a row ({error.message}).")
        await asyncio.sleep(delay)

    async def _reap(self) -> int:
        assert self._process is not None
        status = await self._process.reap()
        self._process = None
        return status

    def _give_up(self, error: OpenLLMError) -> None:
        self.state = State.STOPPED
        self.doing = error.message
        self.desk.fail_all(error.message)
        if not self.fatal.done():
            self.fatal.set_result(error)

    def _progress(self, text: str) -> None:
        self.doing = text

    def _receive(self, message: ToFront) -> None:
        match message:
            case Step(deltas):
                self.desk.receive(deltas)
            case Vectors(vectors):
                self.desk.receive_vectors(vectors)
            case Ready(seconds):
                if self._ready_at is not None:
                    raise Garbage("that it is ready, again")
                self._become_ready(seconds)
            case Progress(text):
                self._heard_loading = self._clock()
                self.doing = text
                self._tell(text)
            case Failed():
                self._why = message
            case AdapterDone():
                self._take_adapter(message)

    def _take_adapter(self, message: AdapterDone) -> None:
        error = self.adapters.done(message)
        if error is None:
            return
        self._tell(f"the adapter {message.name} is not served: {error.message}")
        if not self._was_ready and self._process is not None:
            # Whoever starts a server wants all of its adapters, or an error.
            self._why = message.failed
            self._process.kill()

    def _become_ready(self, seconds: float) -> None:
        assert self._process is not None
        self.state = State.READY
        self.doing = "serving"
        self._ready_at = self._clock()
        self._was_ready = True
        self._tell(f"ready: engine loaded in {seconds:.1f} s")
        self.adapters.open(self._process.send)
        self.desk.open(self._process.send, self._width)
