"""The events of a message's stream. Deltas are on the per-token path: around their text everything is encoded once.

Pure: what is written depends on the events and the usage alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from openllm.api.answer import ChoiceEvent, Usage
from openllm.api.messages.body import UNSIGNED, MessageBody, begun_block, usage_body
from openllm.api.messages.errors import anthropic_error
from openllm.api.pieces import Closed, Grown, Opened, Piece, Pieces, Step
from openllm.errors import OpenLLMError

_encode = msgspec.json.encode
_DELTAS = {
    "text": ("text_delta", "text"),
    "reasoning": ("thinking_delta", "thinking"),
    "call": ("input_json_delta", "partial_json"),
}


def ping(_: str = "") -> bytes:
    """Shows a quiet stream to live."""
    return _event("ping")


class MessageWriter:
    """Writes the stream of one message. ``usage`` must be set before the first event; it may grow until the end."""

    def __init__(self, message: MessageBody) -> None:
        self.answer = Pieces()
        self.usage = Usage()
        self._message = message
        self._begun = False
        self._head = b""  # before the text of the open block's deltas

    def write(self, events: Iterable[ChoiceEvent]) -> bytes:
        """What a batch of an answer's events brings, one after the other."""
        parts = [] if self._begun else [self._start()]
        for _, happened in events:
            for step in self.answer.take(happened):
                self._step(step, parts)
        return b"".join(parts)

    def end(self) -> bytes:
        """The answer is complete."""
        begin = b"" if self._begun else self._start()
        ending = self._message.ending(self.answer, self.usage)
        last = _event("message_delta", delta=ending, usage=usage_body(self.usage))
        return begin + last + _event("message_stop")

    def fail(self, error: OpenLLMError) -> bytes:
        """The answer ended with an error."""
        return b"event: error\ndata: %s\n\n" % _encode(anthropic_error(error))

    def _start(self) -> bytes:
        self._begun = True
        return _event("message_start", message=self._message.begun(self.usage))

    def _step(self, step: Step, parts: list[bytes]) -> None:
        if isinstance(step, Grown):
            parts += (self._head, _encode(step.text), b"}}\n\n")
        elif isinstance(step, Opened):
            self._open(step.piece, parts)
        elif isinstance(step, Closed):
            self._close(step.piece, parts)

    def _open(self, piece: Piece, parts: list[bytes]) -> None:
        parts.append(_event("content_block_start", index=piece.index, content_block=begun_block(piece)))
        kind, field = _DELTAS[piece.kind]
        delta = b'"delta":{"type":"%s","%s":' % (kind.encode(), field.encode())
        about = _encode({"type": "content_block_delta", "index": piece.index})[:-1]
        self._head = b"event: content_block_delta\ndata: " + about + b"," + delta

    def _close(self, piece: Piece, parts: list[bytes]) -> None:
        if piece.kind == "reasoning":
            signature = {"type": "signature_delta", "signature": UNSIGNED}
            parts.append(_event("content_block_delta", index=piece.index, delta=signature))
        parts.append(_event("content_block_stop", index=piece.index))


def _event(kind: str, **about: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), _encode({"type": kind, **about}))
