"""A streaming client of a running server, on the standard library: one connection an answer."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from openllm.errors import OpenLLMError, RequestError, UsageError

_SECONDS = 60.0  # between two bytes; a server that loads its model sends a comment every 10 s


class Piece(NamedTuple):
    """Some text of an answer, or of the reasoning before it."""

    text: str
    reasoning: bool = False


class ChatClient:
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
        body = self._json(self._request("GET", "/v1/models", None))
        try:
            return str(body["data"][0]["id"])
        except (KeyError, IndexError, TypeError) as error:
            raise OpenLLMError(
                f"{self.base} serves no model.", hint="Is it an OpenAI-compatible server?"
            ) from error

    def answer(self, body: dict[str, Any]) -> Generator[Piece, None, None]:
        """Send a chat request; yields the answer as it comes. Closing the iterator ends the request.

        Raises ``RequestError`` for what the server refuses, ``OpenLLMError`` when it is not there, goes away,
        or fails in the middle.
        """
        response = self._request("POST", "/v1/chat/completions", {**body, "stream": True})
        try:
            yield from self._pieces(response)
        except (OSError, HTTPException) as error:
            raise self._gone("went away in the middle of the answer") from error
        finally:
            response.close()

    def _pieces(self, response: HTTPResponse) -> Iterator[Piece]:
        for line in response:
            if not line.startswith(b"data:"):
                continue  # blank lines, and comments that keep the connection alive
            data = line[5:].strip()
            if data == b"[DONE]":
                return
            event = json.loads(data)
            if "error" in event:
                raise OpenLLMError(str(event["error"].get("message", event["error"])))
            for choice in event.get("choices", ()):
                delta = choice.get("delta", {})
                if text := delta.get("reasoning_content"):
                    yield Piece(text, reasoning=True)
                if text := delta.get("content"):
                    yield Piece(text)
        raise self._gone("closed the connection before the answer ended")

    def _request(self, method: str, path: str, body: dict[str, Any] | None) -> HTTPResponse:
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        kind = HTTPSConnection if self._secure else HTTPConnection
        connection = kind(self._host, self._port, timeout=_SECONDS)
        try:
            content = None if body is None else json.dumps(body).encode()
            # One answer a connection: with "close" the response owns the socket, and closing it frees both.
            connection.request(method, self._path + path, content, {**headers, "Connection": "close"})
            response = connection.getresponse()
        except (OSError, HTTPException) as error:
            connection.close()
            raise self._gone("does not answer") from error
        if response.status >= 400:
            raise self._refused(response)
        return response

    def _json(self, response: HTTPResponse) -> Any:
        with response:
            try:
                return json.load(response)
            except ValueError as error:
                raise OpenLLMError(
                    f"{self.base} did not answer with JSON.", hint="Is it the right port?"
                ) from error

    def _refused(self, response: HTTPResponse) -> OpenLLMError:
        with response:
            text = response.read().decode(errors="replace")
        try:
            message = str(json.loads(text)["error"]["message"])
        except (ValueError, KeyError, TypeError):
            message = f"{self.base} answered {response.status} {response.reason}."
        return (RequestError if response.status < 500 else OpenLLMError)(message)

    def _gone(self, what: str) -> OpenLLMError:
        return OpenLLMError(
            f"The server at {self.base} {what}.", hint="Start one with: openllm start MODEL", param="url"
        )
