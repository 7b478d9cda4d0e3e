"""The runner's loop: take requests, step the engine, send what it added. One thread, one engine."""

from __future__ import annotations

import logging
import select
import socket
from collections.abc import Callable, Iterator
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from openllm.engines.base import Delta, Engine
from openllm.engines.encoding import Encoder, Vector
from openllm.engines.refusal import encoding_refusal, refusal
from openllm.errors import OpenLLMError, RunnerDied
from openllm.runner.adapters import load_adapter, unload_adapter
from openllm.runner.wire import (
    Abort,
    Add,
    Encode,
    Frames,
    Load,
    LoadAdapter,
    Step,
    Stop,
    ToFront,
    ToRunner,
    UnloadAdapter,
    Vectors,
    decode_to_runner,
    frame,
)

_READ_BYTES = 1 << 20
_log = logging.getLogger(__name__)


class FrontGone(Exception):
    """The front closed its end of the socket."""


class Line:
    """The runner's end of the socket to the front. Blocking sends; reads that wait only if asked to."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(True)
        self._sock = sock
        self._frames = Frames()

    def send(self, message: ToFront) -> None:
        """Send one message; blocks while the front does not read. Raises ``FrontGone``."""
        try:
            self._sock.sendall(frame(message))
        except OSError as error:
            raise FrontGone from error

    def receive(self, *, wait: bool) -> Iterator[ToRunner]:
        """What has arrived, in order; with ``wait`` at least one read. Raises ``FrontGone``."""
        if not wait and not select.select([self._sock], [], [], 0)[0]:
            return
        try:
            data = self._sock.recv(_READ_BYTES)
        except OSError as error:
            raise FrontGone from error
        if not data:
            raise FrontGone
        for payload in self._frames.feed(data):
            yield decode_to_runner(payload)


class Identified(Protocol):
    """What can be added to an engine."""

    @property
    def id(self) -> int: ...


R = TypeVar("R")
Q = TypeVar("Q", bound=Identified, contravariant=True)


class StepMachine(Protocol[Q, R]):
    """What ``Engine`` and ``Encoder`` have in common."""

    def add(self, request: Q, /) -> None: ...
    def abort(self, request_id: int) -> None: ...
    def step(self) -> list[R]: ...
    def busy(self) -> bool: ...


class Kind(NamedTuple, Generic[R]):
    """How the results of a machine are told: those of a step, and one that says why a request was refused (its id
    and the error)."""

    report: Callable[[list[R]], ToFront]
    refusal: Callable[[int, OpenLLMError], R]


GENERATES: Kind[Delta] = Kind(Step, refusal)
ENCODES: Kind[Vector] = Kind(Vectors, encoding_refusal)


def generating_loop(line: Line, engine: Engine) -> Loop[Any, Delta]:
    """For an engine that generates."""
    return Loop(line, engine, GENERATES)


def encoding_loop(line: Line, encoder: Encoder) -> Loop[Any, Vector]:
    """For an encoder."""
    return Loop(line, encoder, ENCODES)


class Loop(Generic[Q, R]):
    """Drives one engine or encoder until the front says stop or is gone."""

    def __init__(self, line: Line, engine: StepMachine[Q, R], kind: Kind[R]) -> None:
        self._line = line
        self._engine = engine
        self._kind = kind
        self._refused: list[R] = []
        self._stopped = False

    def run(self) -> None:
        """Block until stopped. Raises ``FrontGone``, or what ``Engine.step`` raises."""
        while not self._stopped:
            for message in self._line.receive(wait=not self._engine.busy()):
                self._take(message)
            results = self._engine.step() if self._engine.busy() else []
            if self._refused:
                results = [*self._refused, *results]
                self._refused = []
            # An empty step is sent too: it tells the front that the engine is alive.
            self._line.send(self._kind.report(results))

    def _take(self, message: ToRunner) -> None:
        match message:
            case Add(requests) | Encode(requests):  # the front sends what the engine was loaded for
                for request in requests:
                    self._add(request)
            case Abort(ids):
                for request_id in ids:
                    self._engine.abort(request_id)
            case LoadAdapter(adapter):
                self._line.send(load_adapter(self._engine, adapter))
            case UnloadAdapter(name):
                self._line.send(unload_adapter(self._engine, name))
            case Stop():
                self._stopped = True
            case Load():
                raise ValueError("a runner loads one engine only")

    def _add(self, request: Any) -> None:
        refuse = self._kind.refusal
        try:
            self._engine.add(request)
        except OpenLLMError as error:
            self._refused.append(refuse(request.id, error))
        except Exception as error:
            # One bad request must not take the others down with the process.
            _log.exception("request %d was refused by the engine", request.id)
            self._refused.append(refuse(request.id, RunnerDied(f"the engine refused it: {error}")))
