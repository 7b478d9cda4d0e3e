"""What a response request means as a chat request, and how its errors are named."""

from __future__ import annotations

from typing import Any

import pytest

from openllm.api.dialect import FieldNames
from openllm.api.responses.items import chat_messages, input_items
from openllm.api.responses.request import ResponseRequest
from openllm.errors import RequestError


def messages(value: Any, instructions: str | None = None, history: Any = ()) -> list[dict[str, Any]]:
    own = input_items(value, "t")
    return chat_messages(instructions, list(history), own, FieldNames({}), text=isinstance(value, str))


def test_a_text_is_a_message_of_the_user() -> None:
    assert messages("Hi") == [{"role": "user", "content": "Hi"}]
    assert messages("Hi", "Be kind.")[0] == {"role": "developer", "content": "Be kind."}


def test_one_turn_of_the_assistant_is_one_message() -> None:
    turn = [
        {"role": "user", "content": "Weather?"},
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "Hm."}],
        },
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "time", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "noon"}]},
    ]
    calls = [
        {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
        {"id": "c2", "type": "function", "function": {"name": "time", "arguments": "{}"}},
    ]
    assert messages(turn)[1:] == [
        {"role": "assistant", "content": "I look.", "reasoning_content": "Hm.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "c2", "content": "noon"},
    ]


def test_a_text_after_a_call_is_a_message_of_its_own() -> None:
    call = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
    said = [call, {"role": "assistant", "content": "Done."}, {"role": "assistant", "content": "Bye."}]
    assert [message["content"] for message in messages(said)] == [None, "Done.", "Bye."]


def test_parts_stay_parts() -> None:
    parts = [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "low"},
    ]
    assert messages([{"role": "user", "content": parts}])[0]["content"] == [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "low"}},
    ]


def test_stored_items_have_an_id_a_type_and_parts() -> None:
    own = input_items(
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho", "id": "msg_x"}], "t"
    )
    assert own[0] == {
        "id": "msg_ti0",
        "type": "message",
        "status": "completed",
        "role": "user",
        "content": [{"type": "input_text", "text": "Hi"}],
    }
    assert own[1]["id"] == "msg_x"
    assert own[1]["content"][0]["type"] == "output_text"
    assert input_items(own, "other") == own


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"role": "wizard", "content": "Hi"}, "input[0].role"),
        ({"role": "user"}, "input[0].content"),
        ({"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}, "input[0].content[0]"),
        ({"role": "user", "content": [{"type": "input_text"}]}, "input[0].content[0].text"),
        ({"role": "user", "content": "Hi", "name": "me"}, "input[0].name"),
        ({"type": "web_search_call", "id": "ws"}, "input[0].type"),
        ({"type": "item_reference", "id": "msg_1"}, "input[0]"),
        ({"type": "function_call", "call_id": "c", "name": "f"}, "input[0].arguments"),
        ({"type": "function_call_output", "output": "x"}, "input[0].call_id"),
        ({"type": "function_call_output", "call_id": "c", "output": 3}, "input[0].output"),
        ({"type": "reasoning", "summary": [], "encrypted_content": "gAAA"}, "input[0].encrypted_content"),
        ({"type": "reasoning", "content": [{"type": "text", "text": "x"}]}, "input[0].content[0]"),
        ({"type": "reasoning", "content": 3}, "input[0].content"),
        ({"type": 3}, "input[0].type"),
        ({"role": "user", "content": [{"type": []}]}, "input[0].content[0]"),
    ],
)
def test_an_item_that_cannot_be_served_is_named(item: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        input_items([item], "t")
    assert caught.value.param == param
    assert param in caught.value.message


def test_errors_of_chat_are_named_as_the_caller_knows_them() -> None:
    own = input_items(
        [
            {"role": "user", "content": "Hi"},
            {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "Hm."}]},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{"},
            {"type": "function_call", "call_id": "c2", "name": "f", "arguments": "{"},
            {"type": "function_call_output", "call_id": "c1", "output": "x"},
        ],
        "t",
    )
    names = FieldNames({"messages": "input", "max_tokens": "max_output_tokens"})
    chat_messages("Be kind.", [], own, names, text=False)
    for chat, expected in {
        "messages": "input",
        "messages[0].content": "instructions",
        "messages[1].content[3]": "input[0].content[3]",
        "messages[2].reasoning_content": "input[1].content",
        "messages[2].tool_calls[0].function.arguments": "input[2].arguments",
        "messages[2].tool_calls[1].function.name": "input[3].name",
        "messages[3].content": "input[4].output",
        "messages[10]": "input[10]",
        "max_tokens": "max_output_tokens",
        "max_tokens_more": "max_tokens_more",
    }.items():
        assert names.own(chat) == expected


def test_options_become_chats() -> None:
    request = ResponseRequest.model_validate(
        {
            "model": "m", "input": "Hi", "max_output_tokens": 7, "temperature": 0, "top_p": 0.5, "seed": 3, "top_k": 4,
            "parallel_tool_calls": False, "metadata": {"a": "b"}, "user": "me", "truncation": "disabled",
            "text": {"format": {"type": "text"}, "verbosity": "medium"}, "include": [], "service_tier": "auto",
            "reasoning": {"effort": None, "summary": None}, "stream_options": {"include_obfuscation": False},
        }
    )  # fmt: skip
    chat = request.translate([], input_items("Hi", "t")).chat
    assert (chat.answer_tokens(), chat.temperature, chat.top_p, chat.seed, chat.top_k) == (7, 0, 0.5, 3, 4)
    assert chat.parallel_tool_calls is False
    assert chat.messages == [{"role": "user", "content": "Hi"}]
