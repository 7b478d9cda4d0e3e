"""The typed events of a response's stream.

Deltas are on the per-token path: what does not change within an item is encoded once, and only the text and the
sequence number each time. Pure: what is written depends on the events alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from openllm.api.answer import ChoiceEvent, Usage
from openllm.api.pieces import Closed, Grown, Opened, Piece, Pieces, Step
from openllm.api.responses.body import (
    Body,
    ResponseBody,
    added_item,
    failure,
    item_id,
    logprob_body,
    output_item,
    reasoning_part,
    text_part,
)
from openllm.errors import OpenLLMError

_encode = msgspec.json.encode
_DELTAS = {
    "text": "response.output_text.delta",
    "reasoning": "response.reasoning_text.delta",
    "call": "response.function_call_arguments.delta",
}


class EventWriter:
    """Writes the stream of one response; ``answer`` and ``final`` are what became of it.

    The opening events go out with the first that the answer brings, so that an error before has its HTTP status.
    """

    def __init__(self, response: ResponseBody, clock: Callable[[], float] = time.time) -> None:
        self.answer = Pieces()
        self.final: Body | None = None
        self._response = response
        self._clock = clock
        self._number = 0
        self._begun = False
        self._head = b""  # around the text of the open piece's deltas
        self._tail = b""

    def queue(self) -> bytes:
        """A response that is to run in the background."""
        body = self._response.unfinished("queued")
        self._begun = True
        return self._event("response.created", response=body) + self._event("response.queued", response=body)

    def start(self) -> bytes:
        """The response is in progress."""
        body = self._response.unfinished("in_progress")
        created = b"" if self._begun else self._event("response.created", response=body)
        self._begun = True
        return created + self._event("response.in_progress", response=body)

    def write(self, events: Iterable[ChoiceEvent]) -> bytes:
        """What a batch of an answer's events brings, one after the other."""
        parts = [] if self._begun else [self.start()]
        for _, happened in events:
            for step in self.answer.take(happened):
                self._step(step, parts)
        return b"".join(parts)

    def end(self, usage: Usage) -> bytes:
        """The answer is complete: the last event holds the whole response."""
        finished = self.answer.finished
        reason = finished.reason if finished else None
        begin = b"" if self._begun else self.start()
        self.final = self._response.finished(self.answer.pieces, reason, usage, int(self._clock()))
        return begin + self._event(f"response.{self.final['status']}", response=self.final)

    def fail(self, error: OpenLLMError) -> bytes:
        """The answer ended with an error."""
        begin = b"" if self._begun else self.start()
        self.final = self._response.failed(self.answer.pieces, error)
        told = {**failure(error), "code": error.code, "param": error.param}
        return begin + self._event("error", **told) + self._event("response.failed", response=self.final)

    def _step(self, step: Step, parts: list[bytes]) -> None:
        if isinstance(step, Grown):
            parts += (self._head, _encode(step.text))
            if step.logprobs:
                parts += (b',"logprobs":', _encode([logprob_body(entry) for entry in step.logprobs]))
                parts.append(b',"sequence_number":%d}\n\n' % self._number)
            else:
                parts.append(self._tail % self._number)
            self._number += 1
        elif isinstance(step, Opened):
            self._open(step.piece, parts)
        elif isinstance(step, Closed):
            self._close(step.piece, parts)

    def _open(self, piece: Piece, parts: list[bytes]) -> None:
        place = self._place(piece)
        item = added_item(piece, self._response.token)
        parts.append(self._event("response.output_item.added", output_index=piece.index, item=item))
        if piece.kind != "call":
            begun = piece.blank()
            part = text_part(begun) if piece.kind == "text" else reasoning_part(begun)
            parts.append(self._event("response.content_part.added", **place, part=part))
        kind = _DELTAS[piece.kind]
        about = _encode({"type": kind, **place})[:-1]
        self._head = b"event: %s\ndata: %s" % (kind.encode(), about) + b',"delta":'
        self._tail = (b',"logprobs":[]' if piece.kind == "text" else b"") + b',"sequence_number":%d}\n\n'

    def _close(self, piece: Piece, parts: list[bytes]) -> None:
        place = self._place(piece)
        match piece.kind:
            case "text":
                part = text_part(piece)
                about = {"text": part["text"], "logprobs": part["logprobs"]}
                parts.append(self._event("response.output_text.done", **place, **about))
                parts.append(self._event("response.content_part.done", **place, part=part))
            case "reasoning":
                part = reasoning_part(piece)
                parts.append(self._event("response.reasoning_text.done", **place, text=part["text"]))
                parts.append(self._event("response.content_part.done", **place, part=part))
            case "call":
                about = {"name": piece.name, "arguments": piece.text}
                parts.append(self._event("response.function_call_arguments.done", **place, **about))
        item = output_item(piece, self._response.token)
        parts.append(self._event("response.output_item.done", output_index=piece.index, item=item))

    def _place(self, piece: Piece) -> dict[str, Any]:
        place: dict[str, Any] = {
            "item_id": item_id(piece, self._response.token),
            "output_index": piece.index,
        }
        return place if piece.kind == "call" else {**place, "content_index": 0}

    def _event(self, kind: str, **about: Any) -> bytes:
        number, self._number = self._number, self._number + 1
        data = _encode({"type": kind, **about, "sequence_number": number})
        return b"event: %s\ndata: %s\n\n" % (kind.encode(), data)
