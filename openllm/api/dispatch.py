"""Sends a request into the application from inside this process: a batch's line takes the way of every request."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import msgspec
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message

from openllm.api.caller import CALLER, Caller
from openllm.batches.attempts import Reply


class Dispatcher:
    """``app`` is the routes without the layers around them: who a line is from was found out when its batch was
    made, and its turn comes behind everyone's."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def send(self, owner: str, path: str, body: bytes) -> Reply:
        """POST ``body``; work is submitted as ``owner``'s, in the background."""
        exchange = _Exchange(body)
        previous = CALLER.set(Caller(owner, background=True))
        try:
            await self._app(_scope(path, len(body)), exchange.receive, exchange.send)
        except Exception:
            if not exchange.complete:
                raise  # what the routes raise was logged and answered with a 500 before it gets here
        finally:
            CALLER.reset(previous)
        return exchange.reply()


class _Exchange:
    """The client's side of one request."""

    def __init__(self, body: bytes) -> None:
        self.complete = False
        self._request: bytes | None = body
        self._status = 0
        self._headers = Headers()
        self._parts: list[bytes] = []

    async def receive(self) -> Message:
        if self._request is None:
            await asyncio.get_running_loop().create_future()  # this client never goes away by itself
        body, self._request = self._request, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = Headers(raw=message["headers"])
        else:
            self._parts.append(message.get("body", b""))
            self.complete = not message.get("more_body", False)

    def reply(self) -> Reply:
        body = b"".join(self._parts)
        wait = self._headers.get("retry-after", "")
        return Reply(
            status=self._status,
            request_id=self._headers.get("x-request-id") or f"req_{secrets.token_hex(12)}",
            # A reply is one line of a file: JSON may have line ends only between its tokens.
            body=msgspec.json.encode(msgspec.json.decode(body)) if b"\n" in body else body,
            code=_code(body) if self._status >= 400 else None,
            retry_after=float(wait) if wait.isdigit() else None,
        )


class _Error(msgspec.Struct):
    code: str | None = None


class _ErrorBody(msgspec.Struct):
    error: _Error


def _code(body: bytes) -> str | None:
    try:
        return msgspec.json.decode(body, type=_ErrorBody).error.code
    except msgspec.DecodeError:
        return None


def _scope(path: str, length: int) -> dict[str, Any]:
    headers = [
        (b"host", b"localhost"),
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % length),
    ]
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "client": None,
        "server": None,
    }
