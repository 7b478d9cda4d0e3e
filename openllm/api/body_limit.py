"""Reads a request's body before the routes do: not too many bytes, not too slowly, not too costly to parse."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openllm.api.disconnect import ClientGoneError
from openllm.api.error_body import error_response
from openllm.api.json_limits import JsonLimits
from openllm.api.side_lane import QUICK_BYTES
from openllm.api.turnstile import Turnstile
from openllm.errors import OpenLLMError, Overloaded, RequestError, TooLarge, TooSlow

# Routes that read their body by themselves, onto the disk, up to a limit of their own.
UPLOADS = frozenset(("/v1/files",))
_IDLE_SECONDS = 20.0
_SLOWEST_BYTES_PER_SECOND = 100_000
_WHOLE_SECONDS = 30.0  # for any body, however small, besides what its bytes are allowed
_HELD_BODIES = 16  # of the longest, by all requests together
LONG_TEXTS = "openllm.long_texts"
"""Key of the scope: where the long texts of a JSON body are."""


class BodyLimit:
    """``longest`` in bytes. All bodies together may take 16 times that; then the next one is told to come later."""

    def __init__(self, app: ASGIApp, longest: int) -> None:
        self._app = app
        self._longest = longest
        self._held = 0
        self.turnstile = Turnstile()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] != "http"
            or scope["method"] in ("GET", "HEAD", "OPTIONS")
            or scope["path"] in UPLOADS
        ):
            await self._app(scope, receive, send)
            return
        body = _Body(self, scope)
        try:
            await self._answer(body, scope, receive, send)
        finally:
            self._held -= body.size

    async def _answer(self, body: _Body, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await body.read(receive)
        except ClientGoneError:
            return
        except OpenLLMError as error:
            response = error_response(error)
            # What is left of the body is not read.
            response.headers["connection"] = "close"
            await response(scope, receive, send)
            return
        scope[LONG_TEXTS] = body.long_texts
        await self._app(scope, body.replay(receive), send)

    def hold(self, count: int, total: int) -> None:
        """Count bytes of a body that has ``total`` now. Raises ``TooLarge`` and ``Overloaded``."""
        self._held += count
        if total > self._longest:
            raise TooLarge(
                f"The body has more than {self._longest} bytes.",
                hint="Send less, or start the server with a larger --max-body.",
            )
        if self._held > _HELD_BODIES * self._longest:
            raise Overloaded("The server holds too many large requests.", hint="Try again later.")


class _Body:
    """One body as it comes in."""

    def __init__(self, limit: BodyLimit, scope: Scope) -> None:
        self.size = 0
        self._pieces: list[bytes] = []
        self._limit = limit
        self._json: JsonLimits | None = None
        self._length = 0
        self._coding = b"chunked"
        for name, value in scope["headers"]:
            if name == b"content-length":
                self._length = int(value)  # the HTTP parser has let digits only through
            elif name == b"transfer-encoding":
                self._coding = value.lower().strip()
            elif name == b"content-type" and b"json" in value.lower():
                self._json = JsonLimits()

    async def read(self, receive: Receive) -> None:
        """Raises ``RequestError``, ``Overloaded`` and ``ClientGoneError``."""
        if self._coding != b"chunked":  # RFC 9112, 6.3: where such a body ends is not known
            raise RequestError("The transfer coding is not known.", hint="Send the body plain or chunked.")
        self._limit.hold(0, self._length)
        loop = asyncio.get_running_loop()
        began = loop.time()
        more = True
        while more:
            left = began + _WHOLE_SECONDS + self.size / _SLOWEST_BYTES_PER_SECOND - loop.time()
            try:
                async with asyncio.timeout(min(_IDLE_SECONDS, left)):
                    if self.size > QUICK_BYTES:
                        await self._limit.turnstile.passed()
                    message = await receive()
            except TimeoutError:
                raise TooSlow("The body came too slowly.", hint="Send it at once.") from None
            more = self._take(message)

    def _take(self, message: Message) -> bool:
        """Count one piece; True if there are more."""
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        piece: bytes = message.get("body", b"")
        if self._json is not None and piece:
            self._json.feed(piece)
        self._pieces.append(piece)
        self.size += len(piece)
        self._limit.hold(len(piece), self.size)
        return bool(message.get("more_body", False))

    @property
    def long_texts(self) -> list[tuple[int, int]]:
        """Where they are, if it is JSON."""
        return [] if self._json is None else self._json.long_texts

    def replay(self, receive: Receive) -> Receive:
        """A ``receive`` that gives the whole body in one message, and then what ``receive`` gives."""
        whole: bytes | None = b"".join(self._pieces)
        self._pieces.clear()

        async def replayed() -> Message:
            nonlocal whole
            if whole is None:
                return await receive()
            body, whole = whole, None
            return {"type": "http.request", "body": body, "more_body": False}

        return replayed
