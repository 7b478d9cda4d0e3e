"""Whatever stands in a body, it is refused as a request or translated: nothing else is raised."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from openllm.api.messages.request import MessageRequest
from openllm.api.responses.body import ResponseBody
from openllm.api.responses.items import input_items
from openllm.api.responses.request import ResponseRequest
from openllm.errors import RequestError

KEYS = (
    "type", "role", "content", "text", "id", "call_id", "name", "arguments", "output", "summary", "input", "source",
    "image_url", "detail", "tool_use_id", "is_error", "thinking", "signature", "data", "media_type", "cache_control",
    "function", "parameters", "input_schema", "mode", "tools", "format", "schema", "effort", "status", "url",
    "refusal",
)  # fmt: skip
WORDS = (
    "message", "function_call", "function_call_output", "reasoning", "reasoning_text", "input_text", "output_text",
    "refusal", "input_image", "text", "image", "tool_use", "tool_result", "thinking", "user", "assistant", "system",
    "developer", "tool", "function", "auto", "any", "none", "required", "enabled", "disabled", "json_schema",
    "json_object", "base64", "custom", "ephemeral", "allowed_tools", "{}", "", "x",
)  # fmt: skip
SCALARS = (
    st.none() | st.booleans() | st.integers(-2, 2000) | st.floats(allow_nan=False) | st.sampled_from(WORDS)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6)
RESPONSE_KEYS = sorted(ResponseRequest.model_fields.keys() - {"model", "input"})
MESSAGE_KEYS = sorted(MessageRequest.model_fields.keys() - {"model", "messages"})


def respond(body: dict[str, Any]) -> None:
    try:
        request = ResponseRequest.model_validate(body)
        request.translate([], input_items(request.input, "t"))
    except (RequestError, ValidationError):
        return
    ResponseBody(request, "t", 0).unfinished("queued")


@settings(max_examples=100)
@given(st.lists(OBJECTS, min_size=1, max_size=4), st.booleans())
def test_any_items_are_refused_or_translated(items: list[dict[str, Any]], typed: bool) -> None:
    respond({"model": "m", "input": [{"type": "message", **item} for item in items] if typed else items})


@settings(max_examples=100)
@given(st.dictionaries(st.sampled_from(RESPONSE_KEYS), VALUES, max_size=3))
def test_any_options_of_a_response_are_refused_or_translated(options: dict[str, Any]) -> None:
    respond({"model": "m", "input": "Hi", **options})


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(st.sampled_from(["user", "assistant", "system"]), st.lists(OBJECTS, max_size=3)), min_size=1
    ),
    st.dictionaries(st.sampled_from(MESSAGE_KEYS), VALUES, max_size=2),
)
def test_any_message_is_refused_or_translated(
    turns: list[tuple[str, list[dict[str, Any]]]], options: dict[str, Any]
) -> None:
    messages = [{"role": role, "content": blocks} for role, blocks in turns]
    try:
        MessageRequest.model_validate(
            {"model": "m", "max_tokens": 5000, "messages": messages, **options}
        ).translate()
    except (RequestError, ValidationError):
        return
