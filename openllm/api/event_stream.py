"""A Server-Sent Events answer, sent as the engine speaks.

https://html.spec.whatwg.org/multipage/server-sent-events.html. The headers wait for the first bytes, so that an
error before them still has its HTTP status; one ``send`` carries all that one engine step brought.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from openllm.api.disconnect import until_disconnected
from openllm.api.error_body import error_body, error_response
from openllm.api.recorder import server_send
from openllm.errors import OpenLLMError

DONE = b"data: [DONE]\n\n"
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold the tokens back
]
_log = logging.getLogger("openllm.api")


def event(data: object) -> bytes:
    """One event whose data is JSON."""
    return b"data: " + msgspec.json.encode(data) + b"\n\n"


def comment(text: str) -> bytes:
    """A line that clients ignore and proxies count as life."""
    return b": " + text.replace("\n", " ").encode() + b"\n\n"


class EventStream(Response):
    """Sends the chunks of a generator. An error after the first chunk becomes an error event and the end.

    The generator is closed when the client goes, so its ``finally`` frees what it holds.
    """

    def __init__(self, chunks: AsyncGenerator[bytes]) -> None:
        self.status_code = 200
        self.background = None
        self.body = b""
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # A task of its own is resumed for each token without the frames of the middleware above this one.
        sender = asyncio.create_task(self._send(scope, receive, send))
        try:
            await until_disconnected(receive)
        finally:
            sender.cancel()
            await asyncio.wait([sender])

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        send_body = server_send(scope, send)
        begun = False
        last = b""
        try:
            async for chunk in self._chunks:
                if not begun:
                    begun = True
                    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
                await send_body({"type": "http.response.body", "body": chunk, "more_body": True})
        except Exception as error:
            told = _told(error)
            if not begun:
                await error_response(told)(scope, receive, send)
                return
            last = event(error_body(told))
        finally:
            await self._chunks.aclose()
        await send_body({"type": "http.response.body", "body": last, "more_body": False})


def _told(error: Exception) -> OpenLLMError:
    if isinstance(error, OpenLLMError):
        return error
    _log.error("a stream failed", exc_info=error)
    return OpenLLMError("The server made a mistake; its log says more.")
