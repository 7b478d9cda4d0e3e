"""Errors as Anthropic's API words them: ``{"type": "error", "error": {"type", "message"}}``."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openllm.api.error_body import error_body
from openllm.errors import OpenLLMError, Overloaded

_PATH = "/v1/messages"
_OVERLOADED = 529
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    _OVERLOADED: "overloaded_error",
}


def anthropic_error(error: OpenLLMError) -> dict[str, Any]:
    """The body of an error."""
    told = error_body(error)["error"]
    return _body(_status(error.status, told["code"]), told["message"])


def _body(status: int, message: str) -> dict[str, Any]:
    kind = _TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": message}}


def _status(status: int, code: str | None) -> int:
    """429 means a limit of the caller's there; that the server has too much to do is 529."""
    return _OVERLOADED if code == Overloaded.code else status


class AnthropicErrors:
    """An ASGI layer: rewrites the errors of ``/v1/messages``, whoever made them, from OpenAI's form.

    It stands outside everything that may refuse a request. Other paths, and answers that are no errors, pass.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(_PATH):
            send = _Rewriter(send)
        await self._app(scope, receive, send)


class _Rewriter:
    """Holds an error's start until its body is here."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] >= 400:
            self._start = message
            return
        if self._start is None:
            await self._send(message)
            return
        self._body += message.get("body", b"")
        if not message.get("more_body", False):
            await self._rewrite(self._start)

    async def _rewrite(self, start: Message) -> None:
        status, body = start["status"], self._body
        try:
            told = msgspec.json.decode(body)["error"]
            status = _status(status, told["code"])
            body = msgspec.json.encode(_body(status, told["message"]))
        except (msgspec.DecodeError, LookupError, TypeError):
            pass  # not OpenAI's form: nothing to translate
        length = (b"content-length", str(len(body)).encode())
        headers = [*(pair for pair in start["headers"] if pair[0].lower() != b"content-length"), length]
        await self._send({**start, "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})
