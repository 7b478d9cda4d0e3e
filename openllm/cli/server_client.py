"""An HTTP client of a running server, on the standard library: one connection a request."""

from __future__ import annotations

import json
from collections.abc import Iterable
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from openllm.errors import OpenLLMError, RequestError, UsageError

_SECONDS = 60.0  # between two bytes; a server that loads its model sends a comment every 10 s
_JSON = {"Content-Type": "application/json"}


class ServerClient:
    """Talks to one server. ``base`` is its address, with or without /v1; ``key`` goes along as a bearer token."""

    def __init__(self, base: str, key: str | None) -> None:
        parts = urlsplit(base if "//" in base else f"http://{base}")
        try:
            port = parts.port
        except ValueError as error:
            raise UsageError(f"{base} has no valid port.", hint="Write it like http://host:3000.") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                f"{base} is not the address of a server.", hint="Write it like http://host:3000."
            )
        self.base = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/v1')}"
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, port
        self._path = parts.path.rstrip("/").removesuffix("/v1")
        self._key = key

    def first_model(self) -> str:
        """The name of what is served. Raises ``OpenLLMError`` if no server of this kind answers."""
        body = self.json("GET", "/v1/models")
        try:
            return str(body["data"][0]["id"])
        except (KeyError, IndexError, TypeError) as error:
            raise OpenLLMError(
                f"{self.base} serves no model.", hint="Is it an OpenAI-compatible server?"
            ) from error

    def json(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Send JSON, get JSON. Raises as ``request`` does."""
        with self.request(method, path, None if body is None else json.dumps(body).encode()) as response:
            try:
                return json.load(response)
            except ValueError as error:
                raise OpenLLMError(
                    f"{self.base} did not answer with JSON.", hint="Is it the right port?"
                ) from error

    def request(
        self,
        method: str,
        path: str,
        content: bytes | Iterable[bytes] | None,
        headers: dict[str, str] | None = None,
    ) -> HTTPResponse:
        """A response of a status below 400, to be closed. ``content`` in pieces needs a Content-Length.

        Raises ``RequestError`` for what the server refuses, ``OpenLLMError`` when it is not there or fails.
        """
        headers = {**_JSON, **(headers or {})}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        kind = HTTPSConnection if self._secure else HTTPConnection
        connection = kind(self._host, self._port, timeout=_SECONDS)
        try:
            # One answer a connection: with "close" the response owns the socket, and closing it frees both.
            connection.request(method, self._path + path, content, {**headers, "Connection": "close"})
            response = connection.getresponse()
        except (OSError, HTTPException) as error:
            connection.close()
            raise self.gone("does not answer") from error
        if response.status >= 400:
            raise self._refused(response)
        return response

    def gone(self, what: str) -> OpenLLMError:
        """The error for a server that is not there any more."""
        return OpenLLMError(
            f"The server at {self.base} {what}.", hint="Start one with: openllm start MODEL", param="url"
        )

    def _refused(self, response: HTTPResponse) -> OpenLLMError:
        with response:
            text = response.read().decode(errors="replace")
        try:
            message = str(json.loads(text)["error"]["message"])
        except (ValueError, KeyError, TypeError):
            message = f"{self.base} answered {response.status} {response.reason}."
        return (RequestError if response.status < 500 else OpenLLMError)(message)
