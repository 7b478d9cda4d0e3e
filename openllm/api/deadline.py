"""How long a request may take: the server's limit, or the request's own if it is less."""

from __future__ import annotations

import asyncio
import math

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openllm.api.error_body import error_response
from openllm.api.exchange import EXCHANGE, Exchange
from openllm.errors import RequestError

_HEADER = b"x-request-timeout"
# The engine's work is ended at the deadline itself (``Exchange.submit``), so that a stream can still say why.
_GRACE_SECONDS = 0.5


class Deadline:
    """``longest`` in seconds, None for no limit. What has not begun to answer by then is a 504."""

    def __init__(self, app: ASGIApp, longest: float | None) -> None:
        self._app = app
        self._longest = longest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = EXCHANGE.get()
        if scope["type"] != "http" or exchange is None:
            await self._app(scope, receive, send)
            return
        try:
            exchange.seconds = self._seconds(scope)
        except RequestError as error:
            await error_response(error)(scope, receive, send)
            return
        if exchange.seconds is None:
            await self._app(scope, receive, send)
        else:
            await self._in_time(exchange, exchange.seconds, scope, receive, send)

    async def _in_time(
        self, exchange: Exchange, seconds: float, scope: Scope, receive: Receive, send: Send
    ) -> None:
        async def begin(message: Message) -> None:
            limit.reschedule(None)
            await send(message)

        try:
            async with asyncio.timeout(seconds + _GRACE_SECONDS) as limit:
                await self._app(scope, receive, begin)
        except TimeoutError:
            if not limit.expired():
                raise
            await error_response(exchange.late())(scope, receive, send)

    def _seconds(self, scope: Scope) -> float | None:
        asked = [value for name, value in scope["headers"] if name == _HEADER]
        if not asked:
            return self._longest
        try:
            seconds = min(map(float, asked))
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < math.inf:
            raise RequestError(
                "The header x-request-timeout is not a number of seconds above 0.", hint="Write it like 2.5."
            )
        return seconds if self._longest is None else min(seconds, self._longest)
