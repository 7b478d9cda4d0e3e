"""What a key may use: requests and tokens a minute, requests at once."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from openllm.api.error_body import error_response
from openllm.api.exchange import EXCHANGE
from openllm.errors import RateLimited


class RateLimits:
    """Counts the requests that make work, which are POSTs. Tokens are reserved where a prompt is submitted
    (``Exchange.submit``) and settled when the request is over."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = EXCHANGE.get()
        account = None if exchange is None else exchange.account
        if account is None or scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        try:
            account.enter()
        except RateLimited as error:
            await error_response(error)(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        finally:
            account.leave()
