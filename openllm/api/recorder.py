"""Counts every response and times it."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openllm.api.metrics import Metrics

_CLIENT_CLOSED_REQUEST = 499
_SEND = "openllm.send"


class Recorder:
    """The outermost ASGI layer. A response that never began counts as 499: its client had gone."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.monotonic()
        status = _CLIENT_CLOSED_REQUEST

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        scope[_SEND] = send
        try:
            await self._app(scope, receive, watch)
        finally:
            route = scope.get("route")
            path = getattr(route, "path", "unknown")
            self._metrics.responses[path, status] += 1
            self._metrics.request_seconds.observe(time.monotonic() - begun)


def server_send(scope: Scope, send: Send) -> Send:
    """The HTTP server's own ``send``, for the bodies of a response that has begun: no layer between looks at
    them, and each would cost a call a token. ``send`` where there is no recorder."""
    own: Send = scope.get(_SEND, send)
    return own
