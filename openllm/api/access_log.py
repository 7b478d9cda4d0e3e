"""One line for each request that is over."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

import msgspec

from openllm.api.exchange import Exchange

Format = Literal["json", "text", "off"]
_DASH = "-"


class AccessLog:
    """Writes lines with ``tell``: JSON objects, or text for people."""

    def __init__(self, form: Literal["json", "text"], tell: Callable[[str], None]) -> None:
        self._line = _json if form == "json" else _text
        self._tell = tell

    def responded(self, exchange: Exchange) -> None:
        """Write the line of a request that is over."""
        self._tell(self._line(Entry.of(exchange)))


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a line says. Times in seconds; ``ttft`` is from the request's begin to its first token. Tokens are those
    that the engine read and made, whether the client got them or not."""

    time: str
    id: str
    client: str
    caller: str
    method: str
    path: str
    status: int
    seconds: float
    ttft: float | None = None
    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    finish: str | None = None

    @classmethod
    def of(cls, exchange: Exchange) -> Entry:
        """The line of an exchange that is over."""
        assert exchange.ended is not None
        told: tuple[float | None, int | None, int | None, str | None] = (None, None, None, None)
        if exchange.submissions:
            first = first_token_at(exchange)
            ttft = None if first is None else round(first - exchange.began, 4)
            told = (ttft, *exchange.used(), ",".join(finishes(exchange)))
        return cls(
            datetime.fromtimestamp(exchange.began_at, UTC).isoformat(timespec="milliseconds"),
            exchange.id,
            exchange.client,
            exchange.caller.name,
            exchange.method,
            exchange.path,
            exchange.status,
            round(exchange.ended - exchange.began, 4),
            *told,
        )


def first_token_at(exchange: Exchange) -> float | None:
    """When the first token of any of its sequences came."""
    times = [s.first_token_at for s in exchange.submissions if s.first_token_at is not None]
    return min(times, default=None)


def finishes(exchange: Exchange) -> list[str]:
    """Why each sequence ended; "abort" for those that went on when the request was over."""
    return [sequence.finish or "abort" for s in exchange.submissions for sequence in s.sequences]


def _json(entry: Entry) -> str:
    return msgspec.json.encode(entry).decode()


def _text(entry: Entry) -> str:
    # The path is the client's: as JSON it cannot forge a line or write to a terminal.
    path = msgspec.json.encode(entry.path).decode()[1:-1]
    line = f"{entry.time} {entry.id} {entry.caller or _DASH} {entry.method} {path} {entry.status} {entry.seconds:.3f}s"
    if entry.finish is None:
        return line
    ttft = _DASH if entry.ttft is None else f"{entry.ttft:.3f}s"
    return f"{line} ttft {ttft} tokens {entry.prompt_tokens}+{entry.answer_tokens} {entry.finish}"
