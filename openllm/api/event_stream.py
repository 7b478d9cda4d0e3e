"""A Server-Sent Events answer, sent as the engine speaks.

https://html.spec.whatwg.org/multipage/server-sent-events.html. The headers wait for the first bytes, so that an
error before them still has its HTTP status.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from openllm.api.disconnect import until_disconnected
from openllm.api.error_body import error_body, error_response
from openllm.api.exchange import EXCHANGE
from openllm.api.http_protocol import ABORT
from openllm.api.recorder import server_send
from openllm.errors import OpenLLMError

DONE = b"data: [DONE]\n\n"
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold the tokens back
]
# What a client may leave unread, besides what the sockets hold, and for how long it may read nothing at all.
_BACKLOG_BYTES = 1024 * 1024
_STALL_SECONDS = 60.0
_log = logging.getLogger("openllm.api")


def event(data: object) -> bytes:
    """One event whose data is JSON."""
    return b"data: " + msgspec.json.encode(data) + b"\n\n"


def comment(text: str) -> bytes:
    """A line that clients ignore and proxies count as life."""
    return b": " + text.replace("\n", " ").encode() + b"\n\n"


class EventStream(Response):
    """Sends what ``produce`` writes. An error after the first bytes becomes an error event and the end.

    ``produce`` is cancelled when the client goes. ``write`` is a plain function: a token goes from the engine's
    message to the socket in one call, without waking a task. ``quiet`` is set to False by each write; ``alive`` makes
    the bytes that show a quiet stream to live, out of what the engine does. A client that reads too slowly is cut off.
    """

    def __init__(
        self, produce: Callable[[EventStream], Awaitable[None]], alive: Callable[[str], bytes] = comment
    ) -> None:
        self.status_code = 200
        self.background = None
        self.body = b""
        self.quiet = False
        self.alive = alive
        self._produce = produce
        self._send: Send | None = None
        self._start: Send | None = None
        self._backlog: list[bytes] = []
        self._backlog_bytes = 0
        self._flush: asyncio.Task[None] | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._abort: Callable[[], None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._start, self._send = send, server_send(scope, send)
        self._abort = scope.get(ABORT)
        producer = asyncio.create_task(self._run(scope, receive, send))
        try:
            await until_disconnected(receive)
        finally:
            self._moved()
            tasks = [producer] if self._flush is None else [producer, self._flush]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    @property
    def begun(self) -> bool:
        """Have the headers gone out? An error has its HTTP status until then."""
        return self._start is None

    def write(self, chunk: bytes) -> None:
        """Send bytes now, or behind those that a slow client has not read yet. Does not block."""
        self.quiet = False
        if self._flush is not None:
            self._backlog.append(chunk)
            self._backlog_bytes += len(chunk)
            if self._backlog_bytes > _BACKLOG_BYTES:
                self._cut()
            return
        if self._start is not None:
            start, self._start = self._start, None
            self._put(start({"type": "http.response.start", "status": 200, "headers": _HEADERS}))
            self.write(chunk)
            return
        assert self._send is not None
        self._put(self._send({"type": "http.response.body", "body": chunk, "more_body": True}))

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        last = b""
        try:
            await self._produce(self)
        except Exception as error:
            told = told_error(error)
            if self._start is not None:
                await error_response(told)(scope, receive, send)
                return
            last = event(error_body(told))
        if self._flush is not None:
            await self._flush
        assert self._send is not None
        self._watch()
        await self._send({"type": "http.response.body", "body": last, "more_body": False})
        self._moved()

    def _put(self, sending: Awaitable[None]) -> None:
        """Run a ``send`` to its end if it need not wait, else let a task do the rest."""
        assert isinstance(sending, Coroutine)
        try:
            waits_for = sending.send(None)
        except StopIteration:
            return
        self._watch()
        self._flush = asyncio.create_task(self._catch_up(_Rest(sending, waits_for)))

    async def _catch_up(self, rest: _Rest) -> None:
        await rest
        assert self._send is not None
        while self._backlog:
            chunk = b"".join(self._backlog)
            self._backlog.clear()
            self._backlog_bytes = 0
            self._watch()
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        self._moved()
        self._flush = None

    def _watch(self) -> None:
        """From now on the client has so long to read something."""
        self._moved()
        self._stall = asyncio.get_running_loop().call_later(_STALL_SECONDS, self._cut)

    def _moved(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _cut(self) -> None:
        """Drop the connection: the server then says that the client has gone, which ends the stream."""
        self._moved()
        self._backlog.clear()
        if self._abort is not None:
            self._abort()


class _Rest:
    """What is left of a coroutine that waits for ``waits_for``, to be awaited by a task."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], waits_for: object) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, None]:
        waits_for = self._waits_for
        try:
            while True:
                try:
                    sent = yield waits_for
                except BaseException as error:
                    waits_for = self._coroutine.throw(error)
                else:
                    waits_for = self._coroutine.send(sent)
        except StopIteration:
            return


def told_error(error: Exception) -> OpenLLMError:
    """What the client is told of an error; one that is not meant for clients goes to the log."""
    if isinstance(error, OpenLLMError):
        return error
    exchange = EXCHANGE.get()
    _log.error("the stream of request %s failed", exchange.id if exchange else "", exc_info=error)
    return OpenLLMError("The server made a mistake; its log says more.")
