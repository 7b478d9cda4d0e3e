"""The message object and its content blocks. Pure."""

from __future__ import annotations

import secrets
from typing import Any

import msgspec
from pydantic_core import from_json

from openllm.api.answer import Usage
from openllm.api.pieces import Piece, Pieces
from openllm.chat.events import Finished

Body = dict[str, Any]
UNSIGNED = "unsigned"
"""The signature of thinking: clients want one and send it back; it is not looked at."""


class MessageBody(msgspec.Struct, frozen=True):
    """What is said of one message. ``max_tokens`` is what was asked for."""

    id: str
    model: str
    max_tokens: int

    @classmethod
    def make(cls, model: str, max_tokens: int) -> MessageBody:
        """One with a new id."""
        return cls(f"msg_{secrets.token_hex(12)}", model, max_tokens)

    def begun(self, usage: Usage) -> Body:
        """The message before its first block."""
        return self._body([], _ending(None), usage)

    def finished(self, answer: Pieces, usage: Usage) -> Body:
        """The whole message."""
        blocks = [content_block(piece) for piece in answer.pieces]
        return self._body(blocks, self.ending(answer, usage), usage)

    def ending(self, answer: Pieces, usage: Usage) -> Body:
        """Why it ended."""
        finished = answer.finished or Finished("stop")
        if finished.stopped is not None:
            return _ending("stop_sequence", finished.stopped)
        reason = _REASONS[finished.reason]
        if finished.reason == "length" and usage.completion_tokens < self.max_tokens:
            reason = "model_context_window_exceeded"
        return _ending(reason)

    def _body(self, content: list[Body], ending: Body, usage: Usage) -> Body:
        about = {"id": self.id, "type": "message", "role": "assistant", "model": self.model}
        return {**about, "content": content, **ending, "usage": usage_body(usage)}


_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


def _ending(reason: str | None, sequence: str | None = None) -> Body:
    return {"stop_reason": reason, "stop_sequence": sequence, "stop_details": None}


def usage_body(usage: Usage) -> Body:
    """``usage`` as Messages count it: what came from the prefix cache is not input again."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    }


def content_block(piece: Piece) -> Body:
    """A piece that has ended, as a block."""
    match piece.kind:
        case "text":
            return {"type": "text", "text": piece.text}
        case "reasoning":
            return {"type": "thinking", "thinking": piece.text, "signature": UNSIGNED}
        case "call":
            return {"type": "tool_use", "id": piece.call_id, "name": piece.name, "input": _input(piece.text)}


def begun_block(piece: Piece) -> Body:
    """A piece that has just begun."""
    block = content_block(piece.blank())
    return {**block, "signature": ""} if piece.kind == "reasoning" else block


def _input(arguments: str) -> Body:
    """The object that the arguments are, as far as it goes where a limit cut them off."""
    value = from_json(arguments, allow_partial=True) if arguments.strip() else {}
    return value if isinstance(value, dict) else {}
