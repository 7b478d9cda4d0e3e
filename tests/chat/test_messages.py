from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from openllm.chat.messages import template_messages
from openllm.chat.template_traits import TemplateTraits, template_traits
from openllm.errors import RequestError, UnsupportedParameter, UsageError

TEXTS = [{"type": "text", "text": "Hello"}, {"type": "text", "text": "world"}]
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": [1]}'}}


def one(message: dict[str, Any], **traits: bool) -> dict[str, object]:
    before = deepcopy(message)
    (result,) = template_messages([message], TemplateTraits(**traits))
    assert message == before
    return result


def test_plain_text_goes_through() -> None:
    assert one({"role": "user", "content": " hi\n", "name": "Ann"}) == {
        "role": "user", "content": " hi\n", "name": "Ann",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "traits", "expected"),
    [
        (TEXTS, {}, "Hello\nworld"),
        (TEXTS[:1], {}, "Hello"),
        ([], {}, ""),
        (["a", {"type": "refusal", "refusal": "no"}], {}, "a\nno"),
        (TEXTS, {"parts": True}, TEXTS),
        (TEXTS[:1], {"parts": True}, "Hello"),
        (TEXTS[:1], {"parts": True, "text": False}, TEXTS[:1]),
        ("Hello", {"parts": True, "text": False}, TEXTS[:1]),
        ("Hello", {"parts": True}, "Hello"),
    ],
)
def test_parts(content: object, traits: dict[str, bool], expected: object) -> None:
    assert one({"role": "user", "content": content}, **traits)["content"] == expected


@pytest.mark.parametrize(("knows", "role"), [(False, "system"), (True, "developer")])
def test_developer(knows: bool, role: str) -> None:
    assert one({"role": "developer", "content": "x"}, developer=knows)["role"] == role


@pytest.mark.parametrize(
    "message", [{}, {"content": None}, {"content": None, "refusal": None, "audio": None}]
)
@pytest.mark.parametrize(("asks", "content"), [(False, ""), (True, None)])
def test_an_answer_without_content(message: dict[str, Any], asks: bool, content: object) -> None:
    assert one({"role": "assistant", **message}, none=asks) == {"role": "assistant", "content": content}


def test_a_refusal_is_content() -> None:
    assert one({"role": "assistant", "content": None, "refusal": "No."})["content"] == "No."


def test_reasoning_goes_through() -> None:
    message = {"role": "assistant", "content": "4", "reasoning_content": "2 + 2"}
    assert one(message) == message


@pytest.mark.parametrize(
    ("arguments", "expected"), [('{"a": [1]}', {"a": [1]}), ("", {}), ({"b": 2}, {"b": 2})]
)
def test_arguments_of_calls_are_parsed(arguments: object, expected: object) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    result = one({"role": "assistant", "content": None, "tool_calls": [call]})
    assert result["tool_calls"] == [
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": expected}}
    ]


def test_result_of_a_tool() -> None:
    message = {"role": "tool", "tool_call_id": "1", "content": "7"}
    assert one(message) == message


USER = {"role": "user", "content": "x"}


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"content": "x"}, "messages[1].role"),
        ({"role": "function", "content": "x"}, "messages[1].role"),
        ({"role": ["user"], "content": "x"}, "messages[1].role"),
        ({"role": "user"}, "messages[1].content"),
        ({"role": "user", "content": 3}, "messages[1].content"),
        ({"role": "user", "content": [3]}, "messages[1].content[0]"),
        ({"role": "user", "content": [{"text": "x"}]}, "messages[1].content[0]"),
        ({"role": "user", "content": ["x", {"type": "text"}]}, "messages[1].content[1].text"),
        ({"role": "user", "content": "x", "name": 1}, "messages[1].name"),
        ({"role": "user", "content": "x", "tool_calls": [CALL]}, "messages[1].tool_calls"),
        ({"role": "assistant", "tool_calls": {"a": 1}}, "messages[1].tool_calls"),
        ({"role": "assistant", "tool_calls": [CALL, {}]}, "messages[1].tool_calls[1]"),
        (
            {"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]},
            "messages[1].tool_calls[0].function.name",
        ),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]},
            "messages[1].tool_calls[0].function.arguments",
        ),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]},
            "messages[1].tool_calls[0].function.arguments",
        ),
        ("text", "messages[1]"),
    ],
)
def test_mistakes_are_named(message: Any, param: str) -> None:
    with pytest.raises(RequestError) as caught:
        template_messages([USER, message])
    assert caught.value.param == param
    assert caught.value.message.startswith(param)
    assert caught.value.hint


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file", "video_url"])
def test_other_parts_are_refused(kind: str) -> None:
    content = [{"type": "text", "text": "x"}, {"type": kind, kind: {"url": "x"}}]
    with pytest.raises(UnsupportedParameter, match=kind) as caught:
        template_messages([{"role": "user", "content": content}])
    assert caught.value.param == "messages[0].content[1]"


def test_other_fields_are_refused() -> None:
    with pytest.raises(UnsupportedParameter, match=r"messages\[0\]\.audio is not supported"):
        template_messages([{"role": "assistant", "audio": {"id": "1"}}])


def test_no_messages() -> None:
    with pytest.raises(RequestError, match="messages is empty"):
        template_messages([])


LOOP = "{% for part in message.content %}{{ part.text }}{% endfor %}"


@pytest.mark.parametrize(
    ("source", "traits"),
    [
        ("{{ messages[0].content }}", TemplateTraits()),
        (LOOP, TemplateTraits(parts=True, text=False)),
        (
            "{% for part in m['content'] | list %}{{ part['type'] }}{% endfor %}",
            TemplateTraits(parts=True, text=False),
        ),
        ("{% if message.content is string %}{% else %}" + LOOP + "{% endif %}", TemplateTraits(parts=True)),
        ("{% for line in message.content %}{{ line }}{% endfor %}", TemplateTraits()),
        ("{% for m in messages %}{{ m.text }}{% endfor %}", TemplateTraits()),
        ("{% if message['content'] is not none %}{% endif %}", TemplateTraits(none=True)),
        ("{% if m.role == 'developer' %}{% endif %}", TemplateTraits(developer=True)),
        ("{# developer #}developer", TemplateTraits()),
    ],
)
def test_traits(source: str, traits: TemplateTraits) -> None:
    assert template_traits(source) == traits


def test_traits_of_a_broken_template() -> None:
    with pytest.raises(UsageError):
        template_traits("{% if %}")


@pytest.mark.parametrize(
    ("name", "traits"),
    [
        ("Qwen-Qwen2.5-7B-Instruct", TemplateTraits()),
        ("Mistral-Small-3.2-24B-Instruct-2506", TemplateTraits(parts=True, images=True)),
        ("openai-gpt-oss-120b", TemplateTraits(developer=True)),
        ("deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", TemplateTraits(none=True)),
    ],
)
def test_traits_of_real_templates(shared_folder: Path, name: str, traits: TemplateTraits) -> None:
    assert template_traits((shared_folder / "templates" / f"{name}.jinja").read_text()) == traits
