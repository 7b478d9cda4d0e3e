"""Who is asking: every route wants a key but those that an orchestrator probes."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from openllm.api.caller import CALLER, Caller
from openllm.api.error_body import error_response
from openllm.api.exchange import EXCHANGE
from openllm.api.key_ring import KeyRing
from openllm.errors import InvalidApiKey

PROBES = frozenset(("/livez", "/readyz"))
_METRICS = "/metrics"


class Auth:
    """Takes ``Authorization: Bearer KEY``, as OpenAI's clients send it, and ``x-api-key: KEY``, as Anthropic's do.

    The metrics tell how much is asked and when, so they want a key too, unless ``open_metrics``.
    """

    def __init__(self, app: ASGIApp, keys: KeyRing, *, open_metrics: bool) -> None:
        self._app = app
        self._keys = keys
        self._open = PROBES | {_METRICS} if open_metrics else PROBES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in self._open:
            key = _shown(scope)
            found = self._keys.find(key) if key else None
            if found is None:
                await self._refuse(key is not None, scope, receive, send)
                return
            entry, account = found
            caller = Caller(entry.name)
            CALLER.set(caller)
            exchange = EXCHANGE.get()
            if exchange is not None:
                exchange.caller = caller
                exchange.account = account
        await self._app(scope, receive, send)

    async def _refuse(self, shown: bool, scope: Scope, receive: Receive, send: Send) -> None:
        error = InvalidApiKey(
            "The API key is not known here." if shown else "An API key is needed.",
            hint="Send it as Authorization: Bearer KEY."
            if not shown
            else "Make one with: openllm keys new NAME",
        )
        response = error_response(error)
        response.headers["www-authenticate"] = "Bearer"
        # What is left of the body is not read.
        response.headers["connection"] = "close"
        await response(scope, receive, send)


def _shown(scope: Scope) -> str | None:
    """The key that a request shows. Header values are bytes of no known encoding: Latin-1 keeps each."""
    other = None
    for name, value in scope["headers"]:
        if name == b"authorization":
            kind, _, key = value.partition(b" ")
            if kind.lower() == b"bearer" and key.strip():
                text: str = key.strip().decode("latin-1")
                return text
        elif name == b"x-api-key":
            other = value.strip().decode("latin-1")
    return other
