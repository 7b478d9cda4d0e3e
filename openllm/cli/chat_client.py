"""A streaming client of a running server's chat."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from http.client import HTTPException, HTTPResponse
from typing import Any, NamedTuple

from openllm.cli.server_client import ServerClient
from openllm.errors import OpenLLMError


class Piece(NamedTuple):
    """Some text of an answer, or of the reasoning before it."""

    text: str
    reasoning: bool = False


class ChatClient(ServerClient):
    """See ``ServerClient``."""

    def answer(self, body: dict[str, Any]) -> Generator[Piece, None, None]:
        """Send a chat request; yields the answer as it comes. Closing the iterator ends the request.

        Raises ``RequestError`` for what the server refuses, ``OpenLLMError`` when it is not there, goes away,
        or fails in the middle.
        """
        content = json.dumps({**body, "stream": True}).encode()
        response = self.request("POST", "/v1/chat/completions", content)
        try:
            yield from self._pieces(response)
        except (OSError, HTTPException) as error:
            raise self.gone("went away in the middle of the answer") from error
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
        raise self.gone("closed the connection before the answer ended")
