"""What became of one request, judged by the bytes that came back and by nothing else."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import NamedTuple

HEAD_END = b"\r\n\r\n"
DONE = "data: [DONE]"


class End(StrEnum):
    """How a request ended, for its client."""

    ANSWERED = "answered"  # a whole answer
    FAILED = "failed"  # an error as the API has them: a status and JSON, or the last event of a stream
    CANCELLED = "cancelled"  # the client left
    CUT = "cut"  # the connection ended before the answer did
    HUNG = "hung"  # nothing ended it in time
    MALFORMED = "malformed"  # bytes that no client could read


class Verdict(NamedTuple):
    """``begun``: had a token come? ``detail`` says why it failed or what is malformed."""

    end: End
    begun: bool = False
    status: int = 0
    detail: str = ""


class Malformed(Exception):
    """Of bytes that break the protocol."""


def judge(received: bytes, *, streamed: bool) -> Verdict:
    """``received`` is all that came till the connection's end."""
    head, found, rest = received.partition(HEAD_END)
    if not found:
        return Verdict(End.CUT, detail=f"{len(received)} bytes")
    try:
        status, headers = _head(head)
        body = _body(headers, rest)
        if body is None:
            return Verdict(End.CUT, b'"content":"' in rest or b'"text":"' in rest, status, "in the body")
        if streamed and status == 200:
            return _stream(body.decode())
        return _whole(status, headers, body)
    except (Malformed, ValueError) as error:
        return Verdict(End.MALFORMED, detail=f"{error}: {received[-300:]!r}")


def _head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("ascii").split("\r\n")
    protocol, status, _ = f"{first} ".split(" ", 2)
    if protocol != "HTTP/1.1":
        raise Malformed("no HTTP")
    pairs = [line.split(": ", 1) for line in lines]
    return int(status), {name.lower(): value for name, value in pairs}


def _body(headers: dict[str, str], rest: bytes) -> bytes | None:
    """None if it is not all here."""
    if headers.get("transfer-encoding") != "chunked":
        length = int(headers["content-length"])
        if len(rest) > length:
            raise Malformed("more bytes than were promised")
        return rest if len(rest) == length else None
    body = b""
    while rest:
        size, found, rest = rest.partition(b"\r\n")
        if not found:
            return None
        length = int(size, 16)
        if len(rest) < length + 2:
            return None
        if rest[length : length + 2] != b"\r\n":
            raise Malformed("a chunk without its end")
        body += rest[:length]
        rest = rest[length + 2 :]
        if length == 0:
            if rest:
                raise Malformed("bytes after the last chunk")
            return body
    return None


def _stream(body: str) -> Verdict:
    if not body.endswith("\n\n"):
        raise Malformed("the last event has no end")
    events = [event for event in body[:-2].split("\n\n") if not event.startswith(": ")]
    if not events:
        raise Malformed("no event")
    begun = False
    for number, event in enumerate(events):
        last = number == len(events) - 1
        if event == DONE:
            if not last:
                raise Malformed("an event after [DONE]")
            return Verdict(End.ANSWERED, begun, 200)
        if not event.startswith("data: ") or "\n" in event:
            raise Malformed("an event of another form")
        data = json.loads(event[6:])
        if "error" in data:
            if not last:
                raise Malformed("an event after the error")
            return Verdict(End.FAILED, begun, 200, _error(data))
        begun |= any(_text(choice) for choice in data["choices"])
    raise Malformed("neither [DONE] nor an error at the end")


def _whole(status: int, headers: dict[str, str], body: bytes) -> Verdict:
    if not headers.get("content-type", "").startswith("application/json"):
        raise Malformed("no JSON")
    data = json.loads(body)
    if status != 200:
        return Verdict(End.FAILED, False, status, _error(data))
    for choice in data["choices"]:
        if choice["finish_reason"] not in ("stop", "length"):
            raise Malformed("an answer without its end")
    if not data["usage"]["completion_tokens"]:  # the text of one may be empty
        raise Malformed("an answer without tokens")
    return Verdict(End.ANSWERED, True, 200)


def _text(choice: dict[str, object]) -> bool:
    message = choice.get("delta") or choice.get("message") or choice
    assert isinstance(message, dict)
    return bool(message.get("content") or message.get("text"))


def _error(data: dict[str, object]) -> str:
    error = data.get("error")
    if not isinstance(error, dict) or not {"message", "type", "code", "param"} <= error.keys():
        raise Malformed("an error of another form")
    if not isinstance(error["message"], str) or not error["message"]:
        raise Malformed("an error without a message")
    return f"{error['code']}: {error['message']}"
