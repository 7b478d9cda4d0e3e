"""Keeps responses in memory, to be fetched and gone on from: bounded, and private to each caller.

Everything is kept as JSON, so that its size is known. A response holds the whole conversation before it (the bytes
are shared with the earlier responses), so that it can be gone on from after these were deleted or evicted.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from openllm.api.responses.body import Body, Status, encoded
from openllm.api.responses.items import Item
from openllm.api.responses.log import EventLog
from openllm.errors import ObjectNotFound, RequestError

MAX_RESPONSES = 10_000
MAX_BYTES = 256 << 20
MAX_INPUT_BYTES = 16 << 20
"""Of the conversation of one response."""
SECONDS = 24 * 3600.0
ENDED = ("completed", "incomplete", "failed", "cancelled")


class Stored(msgspec.Struct, eq=False):
    """A response. ``input`` are JSON arrays of items: the conversation before it and its own input; ``output`` is one
    too, empty until it has ended. ``log`` are the events of a response that is streamed in the background."""

    id: str
    caller: str
    status: Status
    body: bytes
    input: tuple[bytes, ...]
    output: bytes = b"[]"
    background: bool = False
    log: EventLog | None = None

    @classmethod
    def make(cls, caller: str, body: Body, items: tuple[bytes, ...]) -> Stored:
        """A response that has ended, or has just begun."""
        new = cls(body["id"], caller, body["status"], b"", items, background=body["background"])
        new.become(body)
        return new

    def become(self, body: Body) -> None:
        """Take the next state, or the last."""
        self.status = body["status"]
        self.body = encoded(body)
        self.output = encoded(body["output"])

    def content(self) -> Body:
        """The response object."""
        body: Body = msgspec.json.decode(self.body)
        return body

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def size(self) -> int:
        """Bytes; the shared ones are counted again, so that evicting those who share them frees no less."""
        log = self.log.size if self.log else 0
        return len(self.body) + len(self.output) + sum(map(len, self.input)) + log

    def input_items(self) -> list[Item]:
        """All the input, the conversation before it included."""
        return [item for part in self.input for item in msgspec.json.decode(part)]

    def conversation(self) -> tuple[bytes, ...]:
        """What a next response goes on from."""
        return (*self.input, self.output)


class Store:
    """Where there is no room the oldest response of the caller with the most bytes goes: nobody can push out what
    others have stored by storing much. ``clock`` gives seconds."""

    def __init__(
        self,
        *,
        max_responses: int = MAX_RESPONSES,
        max_bytes: int = MAX_BYTES,
        seconds: float = SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_responses = max_responses
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._clock = clock
        self._shelves: dict[str, _Shelf] = {}  # by caller

    def put(self, stored: Stored) -> None:
        """Keep a response, or its new state; make room by dropping others, or itself if it is too large alone."""
        shelf = self._shelves.setdefault(stored.caller, _Shelf())
        shelf.put(stored, self._clock())
        self._expire()
        while len(self) > self._max_responses or self.size > self._max_bytes:
            self._drop_oldest(max(self._shelves, key=lambda caller: self._shelves[caller].size))

    def find(self, caller: str, response_id: str) -> Stored | None:
        """The caller's response of that id, if it is still there."""
        self._expire()
        shelf = self._shelves.get(caller)
        return None if shelf is None else shelf.find(response_id)

    def get(self, caller: str, response_id: str) -> Stored:
        """The caller's response of that id. Raises ``ObjectNotFound``."""
        stored = self.find(caller, response_id)
        if stored is None:
            raise ObjectNotFound(
                f"There is no response with the id {response_id!r}.",
                hint="It was not stored, or has been deleted or evicted.",
                param="response_id",
            )
        return stored

    def remove(self, stored: Stored) -> None:
        """Forget a response."""
        self._shelves[stored.caller].remove(stored.id)

    @property
    def size(self) -> int:
        """Bytes of everything stored."""
        return sum(shelf.size for shelf in self._shelves.values())

    def __len__(self) -> int:
        return sum(len(shelf) for shelf in self._shelves.values())

    def _expire(self) -> None:
        limit = self._clock() - self._seconds
        for caller, shelf in list(self._shelves.items()):
            while len(shelf) and shelf.oldest < limit:
                shelf.drop_oldest()
            if not len(shelf):
                del self._shelves[caller]

    def _drop_oldest(self, caller: str) -> None:
        shelf = self._shelves[caller]
        shelf.drop_oldest()
        if not len(shelf):
            del self._shelves[caller]


class _Shelf:
    """One caller's responses, the oldest first."""

    def __init__(self) -> None:
        self.size = 0
        self._rows: OrderedDict[str, tuple[Stored, float, int]] = OrderedDict()

    def put(self, stored: Stored, now: float) -> None:
        known = self._rows.get(stored.id)
        size = stored.size
        self.size += size - (known[2] if known else 0)
        self._rows[stored.id] = (stored, known[1] if known else now, size)

    def find(self, response_id: str) -> Stored | None:
        row = self._rows.get(response_id)
        return None if row is None else row[0]

    def remove(self, response_id: str) -> None:
        row = self._rows.pop(response_id, None)
        self.size -= row[2] if row else 0

    @property
    def oldest(self) -> float:
        return next(iter(self._rows.values()))[1]

    def drop_oldest(self) -> None:
        self.size -= self._rows.popitem(last=False)[1][2]

    def __len__(self) -> int:
        return len(self._rows)


def check_size(items: tuple[bytes, ...]) -> None:
    """Raise ``RequestError`` for a conversation that is too large to be stored."""
    if sum(map(len, items)) > MAX_INPUT_BYTES:
        raise RequestError(
            f"The conversation is too large to be stored (over {MAX_INPUT_BYTES >> 20} MiB).",
            hint="Send store=false, and the whole input each time.",
            param="store",
        )
