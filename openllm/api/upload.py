"""Reads an uploaded file from a ``multipart/form-data`` body (RFC 7578) straight onto the disk.

FastAPI's own form would keep it in the system's temporary folder, often memory, and know its size when it is there.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from openllm.batches.storage import disk_errors
from openllm.errors import RequestError, TooLarge, TooSlow

_LONGEST_FIELD = 4096
_MOST_FIELDS = 16
_IDLE_SECONDS = 20.0
_BUFFER_BYTES = 1024 * 1024


async def _next(chunks: AsyncIterator[bytes]) -> bytes:
    """The next bytes that are any; none at the end. Raises ``TooSlow``."""
    try:
        async with asyncio.timeout(_IDLE_SECONDS):
            async for chunk in chunks:
                if chunk:
                    return chunk
    except TimeoutError:
        raise TooSlow("The file came too slowly.", hint="Send it at once.") from None
    return b""


class Upload:
    """A form with one file, in the part named "file", written to ``path``; ``fields`` are its other parts.

    ``longest`` bounds the file in bytes.
    """

    def __init__(self, content_type: str, path: Path, longest: int) -> None:
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self.bytes = 0
        self._path = path
        self._longest = longest
        self._disposition: dict[bytes, bytes] = {}
        self._header: list[bytes] = [b"", b""]
        self._name = ""
        self._is_file = False
        self._value = b""
        self._buffer = bytearray()
        self._complete = False
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise RequestError(
                "The body must be a form with a file.", hint="Send it with Content-Type: multipart/form-data."
            )
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._last,
            },
        )

    async def read(self, chunks: AsyncIterator[bytes]) -> None:
        """Take the whole body. Afterwards the file is on the disk, or there is none.

        Raises ``RequestError`` for a body that is no such form, ``TooLarge``, and ``DiskFull``.
        """
        try:
            with disk_errors(self._path.parent), self._path.open("xb") as file:
                await self._read(chunks, file)
        except BaseException:
            self._path.unlink(missing_ok=True)
            raise

    async def _read(self, chunks: AsyncIterator[bytes], file: IO[bytes]) -> None:
        try:
            while chunk := await _next(chunks):
                self._parser.write(chunk)
                if len(self._buffer) >= _BUFFER_BYTES:
                    await asyncio.to_thread(self._flush, file)
        except FormParserError as error:
            raise RequestError(f"The form cannot be read: {error}.") from error
        if not self._complete:
            raise RequestError("The form is cut short: its last boundary is missing.")
        if self.filename is None:
            raise RequestError("The form has no file.", hint="Send it as the part 'file'.", param="file")
        await asyncio.to_thread(self._flush, file, sync=True)

    def _flush(self, file: IO[bytes], *, sync: bool = False) -> None:
        file.write(self._buffer)
        self._buffer.clear()
        if sync:
            file.flush()
            os.fsync(file.fileno())

    def _begin(self) -> None:
        self._disposition = {}
        self._value = b""

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header[0] += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1] += data[start:end]

    def _header_end(self) -> None:
        name, value = self._header
        self._header = [b"", b""]
        if name.lower() == b"content-disposition":
            _, self._disposition = parse_options_header(value)

    def _headers_end(self) -> None:
        name = self._disposition.get(b"name")
        if name is None:
            raise RequestError("A part of the form has no name.")
        self._name = name.decode(errors="replace")
        self._is_file = self._name == "file"
        if len(self.fields) >= _MOST_FIELDS:
            raise RequestError("The form has too many parts.")
        if self._name in self.fields or (self._is_file and self.filename is not None):
            raise RequestError(f"The form has two parts {self._name!r}.", param=self._name)
        if self._is_file:
            given = self._disposition.get(b"filename", b"").decode(errors="replace")
            self.filename = given.replace("\\", "/").rpartition("/")[2][:255] or "upload"

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self.bytes += end - start
            if self.bytes > self._longest:
                raise TooLarge(
                    f"The file has more than {self._longest} bytes.",
                    hint="Split it, or start the server with a larger --max-upload.",
                    param="file",
                )
            self._buffer += data[start:end]
            return
        self._value += data[start:end]
        if len(self._value) > _LONGEST_FIELD:
            raise RequestError(f"The part {self._name!r} is too long.", param=self._name)

    def _last(self) -> None:
        self._complete = True

    def _end(self) -> None:
        if self._is_file:
            return
        try:
            self.fields[self._name] = self._value.decode()
        except UnicodeDecodeError as error:
            raise RequestError(f"The part {self._name!r} is not UTF-8.", param=self._name) from error
