"""Calls, results and reasoning of a conversation, fitted to what templates take."""

from __future__ import annotations

from typing import Any

import pytest

from openllm.chat.call_messages import fit_calls
from openllm.chat.call_traits import CallTraits
from openllm.chat.messages import Message, template_messages
from openllm.chat.tool_prompt import HOW_TO_CALL, tell_of_tools
from openllm.errors import RequestError
from tests.chat.answers import TOOLS, parser_of, read


def call(identity: str | None, name: str = "now") -> dict[str, Any]:
    made: dict[str, Any] = {"type": "function", "function": {"name": name, "arguments": "{}"}}
    return made if identity is None else {"id": identity, **made}


def calls(*identities: str | None, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": [call(one) for one in identities], **more}


def result(identity: str | None, content: str) -> dict[str, Any]:
    made = {"role": "tool", "content": content}
    return made if identity is None else {**made, "tool_call_id": identity}


def fit(*messages: dict[str, Any], **traits: Any) -> list[Message]:
    return fit_calls(template_messages([{"role": "user", "content": "Hi"}, *messages]), CallTraits(**traits))[
        1:
    ]


def ids(messages: list[Message]) -> list[Any]:
    """The ids in a conversation, in order."""
    found: list[Any] = []
    for message in messages:
        made: Any = message.get("tool_calls") or []
        found += [one["id"] for one in made] or [message.get("tool_call_id")]
    return found


def test_ids_stay_where_any_will_do() -> None:
    assert ids(fit(calls("call_a", "b"), result("b", "1"), result("call_a", "2"))) == [
        "call_a",
        "b",
        "b",
        "call_a",
    ]


def test_ids_are_shortened_for_mistral() -> None:
    found = ids(
        fit(calls("call_a", "123456789"), result("123456789", "1"), result("call_a", "2"), ids="short")
    )
    assert found == [found[0], "123456789", "123456789", found[0]]
    assert len(found[0]) == 9
    assert found[0].isalnum()


def test_ids_are_numbered_for_kimi() -> None:
    history = (calls("a", "b"), result("b", "1"), result("a", "2"), calls("c"), result("c", "3"))
    first, second, third = (f"functions.now:{index}" for index in range(3))
    assert ids(fit(*history, ids="numbered")) == [first, second, second, first, third, third]


def test_a_result_without_an_id_answers_the_next_call() -> None:
    found = fit(calls(None, None), result(None, "1"), result(None, "2"))
    assert ids(found)[:2] == ids(found)[2:]


def test_an_id_may_come_again_in_a_later_message() -> None:
    fit(calls("a"), result("a", "1"), calls("a"), result("a", "2"))


def test_calls_may_go_unanswered() -> None:
    fit(calls("a"), {"role": "user", "content": "never mind"})


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([result("a", "1")], "messages[1].tool_call_id"),
        ([result(None, "1")], "messages[1].tool_call_id"),
        ([calls("a"), result("b", "1")], "messages[2].tool_call_id"),
        ([calls("a"), result(None, "1"), result(None, "2")], "messages[3].tool_call_id"),
        ([calls("a", "a")], "messages[1].tool_calls[1].id"),
    ],
)
def test_nonsense_is_named(messages: list[dict[str, Any]], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        fit(*messages)
    assert caught.value.param == param
    assert caught.value.message.startswith(param)


def test_one_call_a_message() -> None:
    found = fit(calls("a", "b", content="Well."), result("b", "1"), result("a", "2"), single=True)
    assert [message["role"] for message in found] == ["assistant", "tool", "assistant", "tool"]
    assert ids(found) == ["a", "a", "b", "b"]
    assert [message["content"] for message in found] == ["Well.", "2", "", "1"]


@pytest.mark.parametrize("given", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_goes_where_the_template_looks(given: str, key: str) -> None:
    (message,) = fit({"role": "assistant", "content": "4", given: "2 + 2"}, reasoning=key)
    assert message == {"role": "assistant", "content": "4", key: "2 + 2"}


def test_reasoning_as_a_part() -> None:
    (message,) = fit({"role": "assistant", "content": "4", "reasoning": "2 + 2"}, reasoning="part")
    assert message["content"] == [{"type": "thinking", "thinking": "2 + 2"}, {"type": "text", "text": "4"}]


def test_reasoning_is_left_out_where_nobody_looks() -> None:
    (message,) = fit({"role": "assistant", "content": "4", "reasoning": "2 + 2"}, reasoning="")
    assert message == {"role": "assistant", "content": "4"}
    both = fit(calls("a", content="I look.", reasoning="hm"), reasoning="thinking")
    assert "thinking" not in both[0]


SHOWN = [
    {"type": "function", "function": {"name": name, "parameters": schema}} for name, schema in TOOLS.items()
]


@pytest.mark.parametrize(
    ("system", "start"),
    [
        ([], "You can call"),
        ([{"role": "system", "content": "Be brief."}], "Be brief.\n\nYou can call"),
    ],
)
def test_tools_are_told_in_the_system_message(system: list[Message], start: str) -> None:
    user: Message = {"role": "user", "content": "Hi"}
    first, last = tell_of_tools([*system, user], SHOWN, "Call them.")
    assert last == user
    text = str(first["content"])
    assert text.startswith(start)
    assert text.endswith("Call them.")
    assert all(f'"name": "{name}"' in text for name in TOOLS)


def test_what_deepseek_is_told_to_write_is_what_is_read() -> None:
    told = HOW_TO_CALL["deepseek_v3"].splitlines()[1]
    assert read(parser_of("deepseek_v3"), told).parsed() == [
        ("name_of_the_function", {"name_of_a_parameter": "its value"})
    ]
