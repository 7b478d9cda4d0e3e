"""A Server-Sent Events answer, sent as the engine speaks.

https://html.spec.whatwg.org/multipage/server-sent-events.html. The headers wait for the first bytes, so that an
error before them still has its HTTP status; one ``send`` carries all that one engine step brought.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from openllm.api.disconnect import ClientGoneError, while_connected
from openllm.api.error_body import error_body, error_response
from openllm.errors import OpenLLMError

DONE = b"data: [DONE]\n\n"
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold the tokens back
]


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
        self._begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with while_connected(receive):
                await self._send_all(send)
        except OpenLLMError as error:
            if self._begun:
                await _finish(send, event(error_body(error)))
            else:
                await error_response(error)(scope, receive, send)
        except ClientGoneError:
            pass
        finally:
            await self._chunks.aclose()

    async def _send_all(self, send: Send) -> None:
        async for chunk in self._chunks:
            if not self._begun:
                self._begun = True
                await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await _finish(send, b"")


async def _finish(send: Send, last: bytes) -> None:
    await send({"type": "http.response.body", "body": last, "more_body": False})
