"""The runner's loop: take requests, step the engine, send what it added. One thread, one engine."""

from __future__ import annotations

import logging
import select
import socket
from collections.abc import Iterator

from openllm.engines.base import Delta, Engine, Generation
from openllm.engines.refusal import refusal
from openllm.errors import OpenLLMError
from openllm.runner.adapters import load_adapter, unload_adapter
from openllm.runner.wire import (
    Abort,
    Add,
    Frames,
    Load,
    LoadAdapter,
    Step,
    Stop,
    ToFront,
    ToRunner,
    UnloadAdapter,
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


class Loop:
    """Drives one engine until the front says stop or is gone."""

    def __init__(self, line: Line, engine: Engine) -> None:
        self._line = line
        self._engine = engine
        self._refused: list[Delta] = []
        self._stopped = False

    def run(self) -> None:
        """Block until stopped. Raises ``FrontGone``, or what ``Engine.step`` raises."""
        while not self._stopped:
            for message in self._line.receive(wait=not self._engine.busy()):
                self._take(message)
            deltas = self._engine.step() if self._engine.busy() else []
            if self._refused:
                deltas = [*self._refused, *deltas]
                self._refused = []
            # An empty step is sent too: it tells the front that the engine is alive.
            self._line.send(Step(deltas))

    def _take(self, message: ToRunner) -> None:
        match message:
            case Add(generations):
                for generation in generations:
                    self._add(generation)
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

    def _add(self, generation: Generation) -> None:
        try:
            self._engine.add(generation)
        except OpenLLMError as error:
            self._refused.append(refusal(generation.id, error))
        except Exception as error:
            # One bad request must not take the others down with the process.
            _log.exception("request %d was refused by the engine", generation.id)
            self._refused.append(Delta(generation.id, [], "error", 0, f"the engine refused it: {error}"))
