"""One of a model's replicas: a runner, and the next one when it has ended."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import msgspec

from openllm.engines.base import EngineConfig
from openllm.errors import OpenLLMError
from openllm.fleet.adapters import Adapters
from openllm.fleet.desk import Desk
from openllm.fleet.life import Life
from openllm.fleet.observer import Observer
from openllm.fleet.restart import RestartPolicy
from openllm.fleet.shared_gate import SharedGate
from openllm.fleet.spawn import Spawned, Spawner
from openllm.fleet.state import State
from openllm.fleet.watch import Patience
from openllm.runner.wire import AdapterDone, Failed, Progress, Ready, Step, ToFront, Vectors

# An encoder forms its batches itself, of texts of like length: it must see some to choose from. What it has is no
# longer shared fairly, so not too many.
_TEXTS_TO_CHOOSE_FROM = 4  # for each that a batch holds


class Shared(msgspec.Struct, frozen=True):
    """What the replicas of one model share."""

    desk: Desk
    adapters: Adapters
    gate: SharedGate
    observer: Observer
    spawner: Spawner
    policy: RestartPolicy
    patience: Patience
    clock: Callable[[], float]


class Model(Protocol):
    """What a replica asks of its keeper, which decides for all replicas together."""

    @property
    def proven(self) -> bool:
        """Has any runner of this model ever been ready?"""

    @property
    def failed(self) -> bool:
        """Have the runners of all replicas ended too often?"""

    def begins(self) -> None:
        """A runner is about to be started."""

    def answers(self, life: Life) -> None:
        """A runner has become ready, and has been given what it has room for."""

    def follow(self) -> None:
        """The state of a replica has changed."""

    def rests(self) -> bool:
        """After a runner's end: is none wanted?"""


class Replica:
    """Its runner lives between ``run`` and the model's ``gate`` being shut, again and again.

    ``number`` counts a model's replicas from 0. ``state`` and ``doing`` are its own, as ``Keeper``'s are the model's;
    ``restarts`` counts runners that were started again. ``tell`` receives what a user should know of.
    """

    def __init__(self, number: int, shared: Shared, model: Model, tell: Callable[[str], None]) -> None:
        self.number = number
        self.state = State.ASLEEP
        self.doing = ""
        self.restarts = 0
        self._shared = shared
        self._model = model
        self._tell = tell
        self._life: Life | None = None
        self._failures = 0
        self._width = 0

    @property
    def pid(self) -> int | None:
        """The runner's process id, if there is one."""
        return None if self._life is None else self._life.pid

    @property
    def lives(self) -> bool:
        """Is there a process?"""
        return self._life is not None

    @property
    def wedged(self) -> bool:
        """Has the engine had work and said nothing for too long?"""
        return 0 < self._shared.patience.stall <= self._shared.desk.silent_for(self.number)

    @property
    def ready(self) -> bool:
        """Does its engine answer?"""
        return self.state is State.READY and not self.wedged

    def adopt(self, spawned: Spawned) -> None:
        """Its first runner was spawned already."""
        shared = self._shared
        self._life = Life(
            spawned,
            patience=shared.patience,
            clock=shared.clock,
            silent_since=partial(shared.desk.silent_since, self.number),
        )

    def forget(self) -> None:
        """What its runners have done before counts for nothing."""
        self._failures = 0

    async def run(self, config: EngineConfig) -> None:
        """Life after life, until the gate is shut. Raises why the model's first one could not begin."""
        model, gate, policy = self._model, self._shared.gate, self._shared.policy
        self.state = State.ASLEEP
        while await self._enter():
            life = await self._live(config)
            if gate.is_shut:
                if life.ready_at is not None:
                    self.forget()
                break
            ready_for = None if life.ready_at is None else self._shared.clock() - life.ready_at
            error, excused = await self._bury(life)
            answered = self._shared.desk.posts[self.number].fruitful
            self._failures = policy.failures(self._failures, ready_for, answered=answered, excused=excused)
            if gate.is_shut:
                break
            if not model.proven and (life.failed or not policy.holds(self._failures)):
                raise error
            await self._wait(error)
            if model.rests():
                break
        if self._life is not None:
            await self.end(politely=self._life.ready_at is not None)
        self.state = State.ASLEEP

    def leave(self) -> None:
        """Wait for the end of its runner no longer."""
        if self._life is not None:
            self._life.leave()

    async def end(self, *, politely: bool) -> None:
        """End its runner, if there is one; at once unless ``politely``."""
        if self._life is not None:
            await self._life.end(politely=politely)
            self._be_gone()

    async def _enter(self) -> bool:
        if not self._shared.gate.is_shut and self.state is not State.FAILED:
            self._become(State.QUEUED, "waiting for memory that other models have")
        return await self._shared.gate.enter()

    async def _live(self, config: EngineConfig) -> Life:
        """One life of a runner, from its start to its end, or until it is left."""
        shared = self._shared
        adapters = shared.adapters.files_for(self.number)
        self._width = config.max_sequences * (1 if config.encoder is None else _TEXTS_TO_CHOOSE_FROM)
        self._model.begins()
        state = State.STARTING if self.state is not State.FAILED else State.FAILED
        self._become(state, "starting the engine")
        if self._life is None:
            self.adopt(shared.spawner.spawn(config.engine, threads=config.threads))
        life = self._life
        assert life is not None
        mine = msgspec.structs.replace(config, adapters=adapters, replica=self.number)
        await life.begin(mine, partial(self._receive, life))
        await life.until_over()
        return life

    async def _bury(self, life: Life) -> tuple[OpenLLMError, bool]:
        """Reap the runner that ended. Why it did, and whether a single request is to blame that is tried again."""
        if self.state is not State.FAILED:
            self._become(State.WAITING, "the runner ended")
        error = await life.bury()
        self._be_gone()
        self._shared.adapters.close(self.number)
        why = f"The model's runner ended while it answered ({error.message})."
        return error, self._shared.desk.close(why, self.number)

    async def _wait(self, error: OpenLLMError) -> None:
        """Until the next start is due, or the gate is shut."""
        policy, failures = self._shared.policy, self._failures
        self.restarts += 1
        self._shared.observer.restarted()
        delay = policy.delay(failures)
        doing = f"{error.message}; starting again" + (f" in {delay:.0f} s" if delay else "")
        self._tell(doing)
        if policy.holds(failures):
            self._become(State.WAITING, doing)
        else:
            self._become(State.FAILED, doing)
            self._shared.desk.give_up(self.number)
            if self._model.failed:
                self._shared.desk.fail_all(
                    f"The model's runner ended {failures} times in a row ({error.message})."
                )
        await self._shared.gate.until_shut(delay)

    def _be_gone(self) -> None:
        """There is no process any more."""
        self._life = None
        self._shared.gate.leave()

    def _become(self, state: State, doing: str) -> None:
        self.state, self.doing = state, doing
        self._model.follow()

    def _receive(self, life: Life, message: ToFront) -> None:
        match message:
            case Step(deltas):
                self._shared.desk.receive(deltas, self.number)
            case Vectors(vectors):
                self._shared.desk.receive_vectors(vectors, self.number)
            case Ready(seconds):
                self._become_ready(life, seconds)
            case Progress(text):
                life.heard()
                self._become(self.state, text)
                self._tell(text)
            case Failed():
                life.fail(message)
            case AdapterDone():
                self._take_adapter(life, message)

    def _take_adapter(self, life: Life, message: AdapterDone) -> None:
        error = self._shared.adapters.done(message, self.number)
        if error is None:
            return
        self._tell(f"the adapter {message.name} is not served: {error.message}")
        if not self._model.proven:
            # Whoever starts a server wants all of its adapters, or an error.
            life.reject(message.failed)

    def _become_ready(self, life: Life, seconds: float) -> None:
        life.become_ready()
        self._become(State.READY, "serving")
        self._tell(f"ready: engine loaded in {seconds:.1f} s")
        self._shared.adapters.open(life.send, self.number)
        self._shared.desk.open(life.send, self._width, self.number)
        self._model.answers(life)
