"""The response object, in each of its states, and the items of its output. Pure."""

from __future__ import annotations

import secrets
import time
from typing import Any, Literal

import msgspec

from openllm.api.answer import Usage
from openllm.api.error_body import error_body
from openllm.api.pieces import Piece
from openllm.api.responses.items import Item
from openllm.api.responses.request import ResponseRequest
from openllm.chat.events import TextLogprobs, TokenLogprob
from openllm.errors import OpenLLMError

Status = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
Body = dict[str, Any]


class ResponseBody:
    """Makes the bodies of one response. ``token`` is what its id and those of its items are made of; ``created`` in
    seconds since 1970."""

    def __init__(self, request: ResponseRequest, token: str, created: int) -> None:
        self.id = f"resp_{token}"
        self.token = token
        self._about = {"id": self.id, "object": "response", "created_at": created, **_said_again(request)}

    @classmethod
    def make(cls, request: ResponseRequest) -> ResponseBody:
        """One with a new id that cannot be guessed."""
        return cls(request, secrets.token_hex(24), int(time.time()))

    def unfinished(self, status: Status) -> Body:
        """Queued, in progress or cancelled: nothing of the output."""
        return self._body(status)

    def finished(self, pieces: list[Piece], reason: str | None, usage: Usage, now: int) -> Body:
        """Completed, or incomplete if ``reason`` says that a limit cut it off. ``now`` in seconds since 1970."""
        output = [output_item(piece, self.token) for piece in pieces]
        if reason == "length":
            details = {"reason": "max_output_tokens"}
            return self._body(
                "incomplete", output=output, usage=usage_body(usage), incomplete_details=details
            )
        return self._body("completed", output=output, usage=usage_body(usage), completed_at=now)

    def failed(self, pieces: list[Piece], error: OpenLLMError) -> Body:
        """Ended by an error; what there was of the output stays."""
        output = [output_item(piece, self.token) for piece in pieces]
        return self._body("failed", output=output, error=failure(error))

    def _body(self, status: Status, **more: Any) -> Body:
        blank: Body = {
            "error": None,
            "incomplete_details": None,
            "output": [],
            "usage": None,
            "completed_at": None,
        }
        return {**self._about, "status": status, **blank, **more}


def _said_again(request: ResponseRequest) -> Body:
    """What a response repeats of its request, with the defaults in place."""
    reasoning = request.reasoning
    text = request.text.model_dump(by_alias=True, exclude_none=True) if request.text else {}
    choice = request.tool_choice
    if choice is None:
        choice_body: object = "auto"
    else:
        choice_body = choice if isinstance(choice, str) else choice.model_dump()
    return {
        "background": bool(request.background),
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "max_tool_calls": request.max_tool_calls,
        "metadata": request.metadata or {},
        "model": request.model,
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": request.previous_response_id,
        "prompt_cache_key": request.prompt_cache_key,
        "reasoning": {"effort": reasoning.effort if reasoning else None, "summary": None},
        "safety_identifier": request.safety_identifier,
        "service_tier": "default",
        "store": request.kept,
        "temperature": 1.0 if request.temperature is None else request.temperature,
        "text": {"format": {"type": "text"}, "verbosity": "medium", **text},
        "tool_choice": choice_body,
        "tools": [tool.model_dump(exclude={"defer_loading"}) for tool in request.tools or ()],
        "top_logprobs": request.top_logprobs or 0,
        "top_p": 1.0 if request.top_p is None else request.top_p,
        "truncation": "disabled",
        "user": request.user,
    }


def usage_body(usage: Usage) -> Body:
    """``usage`` as Responses count it."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def failure(error: OpenLLMError) -> Body:
    """The ``error`` of a response: its code is one of the few that the API knows."""
    code = "server_error" if error.status >= 500 else "invalid_prompt"
    if error.status == 429:
        code = "rate_limit_exceeded"
    return {"code": code, "message": error_body(error)["error"]["message"]}


def output_item(piece: Piece, token: str) -> Item:
    """A piece that has ended, as an item."""
    return _item(piece, token, "completed" if piece.complete else "incomplete", content=True)


def added_item(piece: Piece, token: str) -> Item:
    """A piece that has just begun."""
    return _item(piece.blank(), token, "in_progress", content=False)


def _item(piece: Piece, token: str, status: str, *, content: bool) -> Item:
    item = {"id": item_id(piece, token), "status": status}
    match piece.kind:
        case "text":
            parts = [text_part(piece)] if content else []
            return {**item, "type": "message", "role": "assistant", "content": parts}
        case "reasoning":
            thoughts = [reasoning_part(piece)] if content else []
            return {**item, "type": "reasoning", "summary": [], "content": thoughts}
        case "call":
            call = {"call_id": piece.call_id, "name": piece.name, "arguments": piece.text}
            return {**item, "type": "function_call", **call}


def item_id(piece: Piece, token: str) -> str:
    """Unlike in all responses, and the same however it is sent."""
    return f"{_PREFIXES[piece.kind]}_{token}o{piece.index}"


_PREFIXES = {"text": "msg", "reasoning": "rs", "call": "fc"}


def text_part(piece: Piece) -> Item:
    """The part of a message."""
    logprobs = [logprob_body(entry) for entry in piece.logprobs]
    return {"type": "output_text", "annotations": [], "logprobs": logprobs, "text": piece.text}


def reasoning_part(piece: Piece) -> Item:
    """The part of a reasoning item."""
    return {"type": "reasoning_text", "text": piece.text}


def logprob_body(entry: TextLogprobs) -> Item:
    """One token's entry in ``logprobs``."""
    return {**_token(entry.chosen), "top_logprobs": [_token(token) for token in entry.top]}


def _token(token: TokenLogprob) -> Item:
    return {"token": token.token, "bytes": list(token.bytes), "logprob": token.logprob}


def encoded(body: object) -> bytes:
    """JSON."""
    return msgspec.json.encode(body)
