"""The outermost layer: gives each request an id and a record of its own, and shows the record to whoever counts."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openllm.api.exchange import EXCHANGE, Exchange

Observe = Callable[[Exchange], None]

_CLIENT_CLOSED_REQUEST = 499
_SEND = "openllm.send"
_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")


class Recorder:
    """Each of ``observers`` is called with a request's exchange when it is over. A response that never began counts
    as 499: its client had gone. A client's own ``x-request-id`` is kept if it is short and plain."""

    def __init__(self, app: ASGIApp, observers: Iterable[Observe]) -> None:
        self._app = app
        self._observers = tuple(observers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _exchange(scope)
        EXCHANGE.set(exchange)

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                own = [(b"x-request-id", exchange.id.encode())]
                if exchange.account is not None:
                    own += exchange.account.headers()
                message = {**message, "headers": [*message.get("headers", ()), *own]}
            await send(message)

        scope[_SEND] = send
        try:
            await self._app(scope, receive, watch)
        finally:
            exchange.status = exchange.status or _CLIENT_CLOSED_REQUEST
            exchange.route = getattr(scope.get("route"), "path", "unknown")
            exchange.end()
            for observe in self._observers:
                observe(exchange)


def _exchange(scope: Scope) -> Exchange:
    request_id = b""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _ID.fullmatch(value):
            request_id = value
    exchange = Exchange(request_id.decode() or f"req_{secrets.token_hex(12)}", scope["method"], scope["path"])
    exchange.headers = scope["headers"]
    exchange.client = (scope.get("client") or ("",))[0]
    return exchange


def server_send(scope: Scope, send: Send) -> Send:
    """The HTTP server's own ``send``, for the bodies of a response that has begun: no layer between looks at
    them, and each would cost a call a token. ``send`` where there is no recorder."""
    own: Send = scope.get(_SEND, send)
    return own
