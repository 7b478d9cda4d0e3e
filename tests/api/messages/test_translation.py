"""What a message request means as a chat request, and how its errors are named."""

from __future__ import annotations

from typing import Any

import pytest

from openllm.api.dialect import FieldNames
from openllm.api.messages.blocks import chat_messages
from openllm.api.messages.request import MessageRequest
from openllm.errors import RequestError


def messages(*turns: tuple[str, Any], system: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    return chat_messages(system, turns, FieldNames({}))


def request(**options: Any) -> MessageRequest:
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}], **options}
    return MessageRequest.model_validate(body)


def test_texts_and_a_system_prompt() -> None:
    assert messages(("user", "Hi"), system=("Be kind.",)) == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
    ]
    assert request(
        system=[{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]
    ).translate().chat.messages[0]["content"] == [
        {"type": "text", "text": "A"},
        {"type": "text", "text": "B"},
    ]


def test_a_tool_loop() -> None:
    used = [
        {"type": "thinking", "thinking": "Hm.", "signature": "s"},
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Paris"}},
        {"type": "tool_use", "id": "t2", "name": "time", "input": {}, "caller": {"type": "direct"}},
    ]
    results = [
        {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "sunny"}]},
        {"type": "tool_result", "tool_use_id": "t2", "is_error": True, "content": "no clock"},
        {"type": "text", "text": "Well?", "cache_control": {"type": "ephemeral"}},
    ]
    calls = [
        {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}},
        {"id": "t2", "type": "function", "function": {"name": "time", "arguments": "{}"}},
    ]
    failed = [{"type": "text", "text": "Error:"}, {"type": "text", "text": "no clock"}]
    assert messages(("user", "Weather?"), ("assistant", used), ("user", results))[1:] == [
        {"role": "assistant", "content": "I look.", "reasoning_content": "Hm.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "t1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "t2", "content": failed},
        {"role": "user", "content": "Well?"},
    ]


def test_turns_of_one_role_are_one_turn() -> None:
    parts = [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]
    assert messages(("user", "A"), ("user", "B")) == [{"role": "user", "content": parts}]


def test_images_are_passed_on() -> None:
    sources = [
        {"type": "base64", "media_type": "image/png", "data": "AA"},
        {"type": "url", "url": "https://x/y.png"},
    ]
    content = messages(("user", [{"type": "image", "source": source} for source in sources]))[0]["content"]
    assert [part["image_url"]["url"] for part in content] == ["data:image/png;base64,AA", "https://x/y.png"]


@pytest.mark.parametrize(
    ("turn", "param"),
    [
        (("user", [{"type": "document", "source": {}}]), "messages[0].content[0].type"),
        (
            ("user", [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]),
            "messages[0].content[0].type",
        ),
        (("user", [{"type": "text"}]), "messages[0].content[0].text"),
        (("user", [{"type": "text", "text": "x", "bold": True}]), "messages[0].content[0].bold"),
        (("user", [{"type": "image", "source": {"type": "file"}}]), "messages[0].content[0].source.type"),
        (("user", [{"type": "tool_result", "content": "x"}]), "messages[0].content[0].tool_use_id"),
        (
            ("user", [{"type": "tool_result", "tool_use_id": "t", "content": 3}]),
            "messages[0].content[0].content",
        ),
        (("assistant", [{"type": "redacted_thinking", "data": "x"}]), "messages[0].content[0].type"),
        (("assistant", [{"type": "tool_use", "id": "t", "name": "f"}]), "messages[0].content[0].input"),
    ],
)
def test_a_block_that_cannot_be_served_is_named(turn: tuple[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        messages(turn)
    assert caught.value.param == param


def test_options_become_chats() -> None:
    chat = (
        request(
            stop_sequences=["END"], temperature=0, top_p=0.5, top_k=4, metadata={"user_id": "me"}, tools=[],
            thinking={"type": "adaptive"}, cache_control={"type": "ephemeral"}, service_tier="auto",
        ).translate().chat
    )  # fmt: skip
    assert (chat.answer_tokens(), chat.stops(), chat.temperature, chat.top_k) == (9, ("END",), 0, 4)


def test_errors_of_chat_are_named_as_the_caller_knows_them() -> None:
    names = FieldNames({"max_completion_tokens": "max_tokens"})
    turns: list[tuple[str, Any]] = [("user", "A"), ("user", "B"), ("assistant", "C"), ("user", "D")]
    chat_messages(("Be kind.",), turns, names)
    assert names.own("messages[0].content") == "system"
    assert names.own("messages[2].content") == "messages[2].content"
    assert names.own("messages[3]") == "messages[3]"
    assert names.own("max_completion_tokens") == "max_tokens"


def test_errors_of_tools_are_named_without_a_function() -> None:
    names = FieldNames({})
    names.add_tool(0, 2, "input_schema")
    error = RequestError(
        "tools[0].function.parameters is wrong.",
        hint="Correct tools[0].function.parameters.",
        param="tools[0].function.parameters",
    )
    names.rename(error)
    assert error.message == "tools[2].input_schema is wrong."
    assert (error.hint, error.param) == ("Correct tools[2].input_schema.", "tools[2].input_schema")
    assert names.own("tools.0.function.name") == "tools.2.name"


def test_a_budget_beyond_the_answer_is_refused() -> None:
    with pytest.raises(RequestError) as caught:
        request(thinking={"type": "enabled", "budget_tokens": 1024}).translate()
    assert caught.value.param == "thinking.budget_tokens"
