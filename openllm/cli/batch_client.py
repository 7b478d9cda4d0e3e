"""A client of a running server's files and batches."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any

from openllm.cli.server_client import ServerClient
from openllm.errors import UsageError

_PIECE = 256 * 1024


def first_url(path: Path) -> str:
    """The endpoint that the first line names. Raises ``UsageError``, ``OSError``."""
    with path.open("rb") as file:
        for text in file:
            if text.strip():
                try:
                    return str(json.loads(text)["url"])
                except (ValueError, KeyError, TypeError) as error:
                    raise UsageError(
                        f"The first line of {path} is not a request.",
                        hint='A line is {"custom_id": ..., "method": "POST", "url": ..., "body": {...}}.',
                    ) from error
    raise UsageError(f"{path} is empty.", hint="Give a file with a request a line.")


class BatchClient(ServerClient):
    """See ``ServerClient``."""

    def upload(self, path: Path) -> str:
        """Send a batch's input, in pieces; returns its id. Raises ``OSError`` if it cannot be read."""
        boundary = secrets.token_hex(16)
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="input.jsonl"\r\n\r\n'
        ).encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            headers = {
                "Content-Type": f"multipart/form-data; boundary={boundary}",
                "Content-Length": str(len(head) + size + len(tail)),
            }
            with self.request("POST", "/v1/files", _pieces(head, file, tail), headers) as response:
                return str(json.load(response)["id"])

    def create(self, file_id: str, endpoint: str, window: str) -> dict[str, Any]:
        """Begin a batch; returns OpenAI's object."""
        body = {"input_file_id": file_id, "endpoint": endpoint, "completion_window": window}
        return dict(self.json("POST", "/v1/batches", body))

    def batch(self, name: str) -> dict[str, Any]:
        """How far it is."""
        return dict(self.json("GET", f"/v1/batches/{name}"))

    def content(self, file_id: str) -> Iterator[bytes]:
        """A file's contents, as they come. Raises ``OpenLLMError`` when the server goes away."""
        with self.request("GET", f"/v1/files/{file_id}/content", None) as response:
            try:
                while piece := response.read(_PIECE):
                    yield piece
            except (OSError, HTTPException) as error:
                raise self.gone("went away in the middle of a file") from error


def _pieces(head: bytes, file: IO[bytes], tail: bytes) -> Iterator[bytes]:
    yield head
    while piece := file.read(_PIECE):
        yield piece
    yield tail
