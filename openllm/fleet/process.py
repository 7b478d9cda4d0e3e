"""A runner's process and the socket to it."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from functools import partial
from typing import cast

from openllm.fleet.forked import ForkedChild
from openllm.fleet.garbage import Garbage
from openllm.fleet.spawn import Spawned
from openllm.runner.wire import Born, Frames, ToFront, ToRunner, decode_to_front, frame, parted

_log = logging.getLogger("openllm.fleet")


class RunnerProcess:
    """One child process that runs one engine; ``attach`` connects it to an event loop."""

    def __init__(self, spawned: Spawned) -> None:
        self._child = spawned.child
        self._sock = spawned.sock
        self.loading = spawned.loading
        self._link: _Link | None = None

    @property
    def pid(self) -> int | None:
        """None as long as it is not known, which a template's runner says when it lives."""
        return self._child.pid

    @property
    def at_work(self) -> int:
        """The process whose work brings the runner on: the template, until it has forked it."""
        return self._child.at_work if isinstance(self._child, ForkedChild) else self._child.pid or 0

    async def attach(
        self,
        on_message: Callable[[ToFront], None],
        on_end: Callable[[], None],
        on_garbage: Callable[[str], None],
    ) -> None:
        """Deliver each message to ``on_message``; ``on_end`` once, when the socket closes.

        ``on_garbage`` is called, with what came, when that cannot be understood or ``on_message`` raises; nothing more
        is delivered then.
        """
        loop = asyncio.get_running_loop()
        # Known before it is connected: a runner that is ready already says so before the connection is returned, and
        # what waits for it is sent at once.
        link = self._link = _Link(partial(self._receive, on_message), on_end, on_garbage)
        await loop.create_unix_connection(lambda: link, sock=self._sock)

    def send(self, message: ToRunner) -> None:
        """Queue one message; does not block. A runner that is gone takes it silently: ``on_end`` tells."""
        if self._link is not None:
            for part in parted(message):
                self._link.send(part)

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal if the process still runs."""
        if self._child.poll() is None:
            self._child.send_signal(how)

    async def wait(self, seconds: float) -> int | None:
        """The exit status (negative: the signal), or None if it still runs after ``seconds``."""
        deadline = asyncio.get_running_loop().time() + seconds
        while (status := self._child.poll()) is None:
            if asyncio.get_running_loop().time() >= deadline:
                return None
            await asyncio.sleep(0.01)
        return status

    async def reap(self) -> int:
        """Kill it if need be, wait till it is gone, close the socket; the exit status."""
        self.kill()
        status = await self.wait(5.0)
        if self._link is not None:
            self._link.close()
        else:
            self._sock.close()
        return -signal.SIGKILL if status is None else status

    def _receive(self, on_message: Callable[[ToFront], None], message: ToFront) -> None:
        if isinstance(message, Born):
            if isinstance(self._child, ForkedChild):
                self._child.born(message.pid)
        else:
            on_message(message)


class _Link(asyncio.Protocol):
    """The front's end of the socket."""

    def __init__(
        self,
        on_message: Callable[[ToFront], None],
        on_end: Callable[[], None],
        on_garbage: Callable[[str], None],
    ) -> None:
        self._on_message = on_message
        self._on_end = on_end
        self._on_garbage = on_garbage
        self._deaf = False
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from asyncio's

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        try:
            for payload in self._frames.feed(data):
                self._on_message(decode_to_front(payload))
        except (Garbage, ValueError) as error:  # msgspec's are ValueErrors
            self._stop_listening(str(error))
        except Exception as error:
            _log.exception("a message of the runner could not be taken")
            self._stop_listening(f"{type(error).__name__}: {error}")

    def _stop_listening(self, why: str) -> None:
        self._deaf = True
        self._on_garbage(why)

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_end()

    def send(self, message: ToRunner) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame(message))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
