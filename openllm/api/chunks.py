"""Stream chunks and whole answers of both completion routes.

Chunks are on the per-token path: what does not change in a stream is encoded once, and only the text each time.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from typing import Any

import msgspec

from openllm.api.answer import ChoiceEvent, Usage
from openllm.api.event_stream import event
from openllm.chat.events import Finished, ReasoningDelta, TextDelta, ToolCallDelta

_encode = msgspec.json.encode


class Envelope(msgspec.Struct, frozen=True):
    """What is said of every answer. ``created`` in seconds since 1970."""

    id: str
    object: str
    created: int
    model: str

    @classmethod
    def make(cls, prefix: str, kind: str, model: str) -> Envelope:
        """A new one with an id of its own."""
        return cls(f"{prefix}-{secrets.token_hex(12)}", kind, int(time.time()), model)

    def body(self, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """A whole object around ``choices``."""
        return {**msgspec.structs.asdict(self), "choices": choices, **more}


class ChunkWriter:
    """Chunks of one stream.

    ``before`` and ``after`` stand around a text's JSON in a choice, ``empty`` is a choice's content without text,
    ``opening`` the content of the chunk that goes ahead of its first text, if there is one.
    """

    def __init__(
        self,
        envelope: Envelope,
        *,
        before: bytes,
        after: bytes,
        empty: dict[str, Any],
        opening: dict[str, Any] | None = None,
        usage: bool,
    ) -> None:
        self._envelope = envelope
        # With include_usage every chunk but the last says null.
        self._usage = {"usage": None} if usage else {}
        self._head = b"data: " + _encode(envelope)[:-1] + b',"choices":[{"index":'
        self._before = before
        self._tail = after + b',"logprobs":null,"finish_reason":null}]' + (b',"usage":null' if usage else b"")
        self._tail += b"}\n\n"
        self._empty = empty
        self._opening = opening
        self._heads: dict[int, bytes] = {}  # per choice that was opened: what stands before its texts

    def write(self, events: Iterable[ChoiceEvent]) -> bytes:
        """The chunks of a batch of events, one after the other."""
        parts: list[bytes] = []
        for index, happened in events:
            head = self._heads.get(index)
            if head is None:
                head = self._open(index, parts)
            if isinstance(happened, TextDelta):
                parts += (head, _encode(happened.text), self._tail)
            elif isinstance(happened, Finished):
                parts.append(self._choice(index, self._empty, happened.reason))
            else:
                parts.append(self._choice(index, {"delta": _part(happened)}, None))
        return b"".join(parts)

    def _open(self, index: int, parts: list[bytes]) -> bytes:
        if self._opening is not None:
            parts.append(self._choice(index, self._opening, None))
        head = self._heads[index] = self._head + b"%d," % index + self._before
        return head

    def usage(self, usage: Usage) -> bytes:
        """The last chunk, with the usage and no choice."""
        return event(self._envelope.body([], usage=usage.body()))

    def _choice(self, index: int, content: dict[str, Any], reason: str | None) -> bytes:
        choice = {"index": index, **content, "logprobs": None, "finish_reason": reason}
        return event(self._envelope.body([choice], **self._usage))


def _part(happened: ReasoningDelta | ToolCallDelta) -> dict[str, Any]:
    """A chat chunk's delta that is not text."""
    if isinstance(happened, ReasoningDelta):
        return {"reasoning_content": happened.text}
    call: dict[str, Any] = {"index": happened.index}
    function = {"arguments": happened.arguments}
    if happened.id:
        call |= {"id": happened.id, "type": "function"}
        function = {"name": happened.name, "arguments": ""}
    return {"tool_calls": [{**call, "function": function}]}
