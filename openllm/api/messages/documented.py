"""What the routes of ``/v1/messages`` answer, for the OpenAPI document. The answers are made in ``body``, ``events``
and ``errors``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from openllm.api.documented import Documented


class AnthropicError(BaseModel):
    """What is wrong, in words."""

    type: Literal[
        "invalid_request_error",
        "authentication_error",
        "permission_error",
        "not_found_error",
        "request_too_large",
        "rate_limit_error",
        "api_error",
        "timeout_error",
        "overloaded_error",
    ]
    message: str


class AnthropicErrorBody(BaseModel):
    """Every error of these routes has this form."""

    type: Literal["error"]
    error: AnthropicError


class SaidText(BaseModel):
    """A text of the model's."""

    type: Literal["text"]
    text: str


class SaidThinking(BaseModel):
    """What the model thought. The signature is sent back by clients, and not looked at."""

    type: Literal["thinking"]
    thinking: str
    signature: str


class SaidToolUse(BaseModel):
    """A call that the model wants made."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


class ThinkingDetails(BaseModel):
    """Of the answer's tokens: those of its thinking."""

    thinking_tokens: int


class MessageUsage(BaseModel):
    """Tokens; what came from the prefix cache is not input again."""

    input_tokens: int
    cache_creation_input_tokens: Literal[0]
    cache_read_input_tokens: int
    output_tokens: int
    output_tokens_details: ThinkingDetails


class MessageObject(BaseModel):
    """Anthropic's ``message``."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[SaidText | SaidThinking | SaidToolUse]
    stop_reason: Literal[
        "end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded"
    ]
    stop_sequence: str | None
    stop_details: None
    usage: MessageUsage


class TokenCount(BaseModel):
    """How long the prompt is."""

    input_tokens: int


# In the place of OpenAI's form, which all other routes use.
ANTHROPIC_ERRORS: Documented = {
    "4XX": {"model": AnthropicErrorBody, "description": "The request cannot be served as it is."},
    "5XX": {"model": AnthropicErrorBody, "description": "The server or its engine cannot serve it now."},
}
