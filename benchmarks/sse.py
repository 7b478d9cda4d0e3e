"""A streamed HTTP/1.1 answer taken apart by hand: head, chunked framing, server-sent events.

Used after a load has ended, on what was recorded while it ran, so that its cost falls on nobody's
measurement.
"""

from __future__ import annotations

from dataclasses import dataclass

HEAD_END = b"\r\n\r\n"
LAST_CHUNK = b"\r\n0\r\n\r\n"


@dataclass(frozen=True)
class Head:
    """Status line and the headers, with lower-case names."""

    status: int
    headers: dict[bytes, bytes]

    @property
    def chunked(self) -> bool:
        return self.headers.get(b"transfer-encoding", b"").lower() == b"chunked"

    @property
    def length(self) -> int | None:
        value = self.headers.get(b"content-length")
        return int(value) if value is not None else None


def parse_head(head: bytes) -> Head:
    """``head`` is everything before the empty line. Raises ``ValueError`` if it is not HTTP."""
    status_line, *lines = head.split(b"\r\n")
    if not status_line.startswith(b"HTTP/1."):
        raise ValueError(f"not an HTTP answer: {status_line[:40]!r}")
    pairs = (line.partition(b":") for line in lines)
    return Head(
        status=int(status_line.split(b" ", 2)[1]),
        headers={name.strip().lower(): value.strip() for name, _, value in pairs},
    )


class Dechunker:
    """Chunked transfer coding (RFC 9112, 7.1) taken off a stream that arrives in arbitrary pieces."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._left = 0
        self.ended = False

    def feed(self, data: bytes) -> bytes:
        """Return the payload that ``data`` completes. Raises ``ValueError`` on bad framing."""
        self._buffer += data
        payload = bytearray()
        while not self.ended:
            if self._left:
                if not self._take(payload):
                    break
            elif not self._open_chunk():
                break
        return bytes(payload)

    def _open_chunk(self) -> bool:
        """Read a size line; False if it is not complete yet. ``_left`` counts the chunk's closing CRLF
        too."""
        line, found, rest = self._buffer.partition(b"\r\n")
        if not found:
            return False
        size = int(bytes(line).split(b";")[0], 16)
        self._buffer = rest
        self._left = size + 2
        self.ended = size == 0
        return True

    def _take(self, payload: bytearray) -> bool:
        """Move what is here of the open chunk into ``payload``; False if nothing is."""
        taken = self._buffer[: self._left]
        if not taken:
            return False
        del self._buffer[: self._left]
        data_left = self._left - 2
        payload += taken[: max(data_left, 0)]
        self._left -= len(taken)
        return True


class EventParser:
    """Server-sent events (only their ``data``) from a stream that arrives in arbitrary pieces.

    Lines may end with LF or CRLF; a lone CR, which the standard allows too, no server here sends. Comments
    and other fields are skipped.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._data: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """Return the data of each event that ``data`` completes."""
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        events = []
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                events.append(b"\n".join(self._data))
                self._data = []
        return events
