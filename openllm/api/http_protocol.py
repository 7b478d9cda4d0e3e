"""uvicorn's HTTP/1.1, with bounds that it does not have: on the headers' size, on the time that they take, and on
the time that a client takes to read the end of an answer."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from openllm.api.error_body import error_body
from openllm.errors import RequestError

_HEADER_BYTES = 64 * 1024
_HEADER_SECONDS = 20.0
ABORT = "openllm.abort"
"""Key of the scope: a function that drops the connection, with what the client has not read."""


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._header_bytes = 0
        self._header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._header_timer is not None:  # the headers are not complete
            self._header_bytes += len(data)
            if self._header_bytes > _HEADER_BYTES:
                self.send_400_response("The headers of the request are too long.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast(dict[str, Any], self.scope)[ABORT] = self.transport.abort
        if self._header_timer is None:
            self._start_timer()

    def on_headers_complete(self) -> None:
        self._stop_timer()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is answered as every other error, and the connection closed."""
        self._stop_timer()
        if self.transport.is_closing():
            return
        if self._may_answer():
            body = msgspec.json.encode(error_body(RequestError(msg)))
            head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(
                body
            )
            self.transport.write(STATUS_LINE[400] + head + body)
        self.transport.close()

    def _may_answer(self) -> bool:
        """Would nothing stand in the middle of another answer? Some errors show when the headers are complete, and
        the request has begun."""
        cycle = self.cycle
        return cycle is None or cycle.response_complete or not (cycle.response_started or self.pipeline)

    def timeout_keep_alive_handler(self) -> None:
        """The connection was idle for long: if an answer still waits to be read, it never will be."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()

    def _start_timer(self) -> None:
        self._header_bytes = 0
        self._header_timer = self.loop.call_later(_HEADER_SECONDS, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None
