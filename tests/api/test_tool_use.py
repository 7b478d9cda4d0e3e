"""What a forced answer must look like, and that what fits is read as the calls it stands for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from openllm.api.parameters import ChatRequest
from openllm.api.tool_use import tool_use
from openllm.chat.answer_format import calls_or_object_parser, forced_parser
from openllm.errors import RequestError
from tests.chat.answers import read

PLACE = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {"place": {"$ref": "#/$defs/place"}},
                "required": ["place"],
                "$defs": {"place": PLACE},
            },
        },
    },
    {"type": "function", "function": {"name": "now", "strict": True}},
]


def use_of(**options: Any) -> Any:
    request = {"model": "m", "messages": [{"role": "user", "content": "x"}], "tools": TOOLS, **options}
    return tool_use(ChatRequest.model_validate(request))


WEATHER = {"name": "weather", "parameters": {"place": {"city": "Rome"}}}
NOW = {"name": "now", "parameters": {}}


@pytest.mark.parametrize(
    ("options", "answer", "calls"),
    [
        ({"tool_choice": "required"}, [WEATHER, NOW], [WEATHER, NOW]),
        ({"tool_choice": "required"}, [NOW], [NOW]),
        ({"tool_choice": "required", "parallel_tool_calls": False}, WEATHER, [WEATHER]),
        ({"tool_choice": {"type": "function", "function": {"name": "now"}}}, {}, [NOW]),
        (
            {"tool_choice": {"type": "function", "function": {"name": "weather"}}},
            WEATHER["parameters"],
            [WEATHER],
        ),
    ],
)
def test_forced_answers(options: dict[str, Any], answer: Any, calls: list[dict[str, Any]]) -> None:
    use = use_of(**options)
    guide = use.guide()
    assert guide.kind == "json_schema"
    schema = json.loads(guide.text)
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(answer)
    found = read(forced_parser(use.schemas, use.name, use.most_calls), *json.dumps(answer))
    assert found.text == ""
    assert found.parsed() == [(call["name"], call["parameters"]) for call in calls]


@pytest.mark.parametrize(
    "answer",
    [
        [],
        [{"name": "gone", "parameters": {}}],
        [{"name": "weather", "parameters": {"place": {}}}],
        [{"parameters": {}, "name": "now", "more": 1}],
        NOW,
        "text",
    ],
)
def test_the_guide_refuses(answer: Any) -> None:
    schema = json.loads(use_of(tool_choice="required").guide().text)
    assert not Draft202012Validator(schema).is_valid(answer)


def test_a_forced_answer_that_was_cut_off() -> None:
    use = use_of(tool_choice="required")
    text = json.dumps([WEATHER])[:-8]
    found = read(forced_parser(use.schemas, None, None), *text)
    assert found.calls[0][0] == "weather"
    assert json.dumps(WEATHER["parameters"]).startswith(found.calls[0][1])


def test_what_the_model_is_shown() -> None:
    shown = use_of().shown
    assert shown[0]["function"]["parameters"] == TOOLS[0]["function"]["parameters"]
    assert shown[1]["function"] == {
        "name": "now", "description": "", "strict": True, "parameters": {"type": "object", "properties": {}},
    }  # fmt: skip


@pytest.mark.parametrize(
    "options", [{"tool_choice": "none"}, {"tools": []}, {"tools": None, "tool_choice": "auto"}]
)
def test_where_nothing_is_called(options: dict[str, Any]) -> None:
    assert use_of(**options) is None


def test_tools_are_checked_even_where_nothing_is_called() -> None:
    with pytest.raises(RequestError):
        use_of(tools=[*TOOLS, TOOLS[0]], tool_choice="none")


PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "boss": {"$ref": "#"}},
    "required": ["name"],
    "additionalProperties": False,
}
AS_PERSON = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}


class TestCallsOrAnAnswer:
    """``tool_choice`` auto beside ``response_format``."""

    @pytest.mark.parametrize("answer", [[NOW], [WEATHER, NOW]])
    def test_calls(self, answer: list[dict[str, Any]]) -> None:
        use = use_of(response_format=AS_PERSON)
        Draft202012Validator(json.loads(use.guide().text)).validate(answer)
        found = read(calls_or_object_parser(use.schemas, use.most_calls), *json.dumps(answer))
        assert found.text == ""
        assert found.parsed() == [(call["name"], call["parameters"]) for call in answer]

    @pytest.mark.parametrize("answer", ['{"name": "Ann"}', '\n {"name": "Ann", "boss": {"name": "[]"}}'])
    def test_an_answer(self, answer: str) -> None:
        use = use_of(response_format=AS_PERSON, parallel_tool_calls=False)
        Draft202012Validator(json.loads(use.guide().text)).validate(json.loads(answer))
        found = read(calls_or_object_parser(use.schemas, use.most_calls), *answer)
        assert (found.text, found.calls) == (answer, ())

    @pytest.mark.parametrize(
        "answer", [[], NOW, {"name": 1}, {}, {"name": "Ann", "boss": {}}, [{"name": "Ann"}]]
    )
    def test_the_guide_refuses(self, answer: Any) -> None:
        schema = json.loads(use_of(response_format=AS_PERSON).guide().text)
        assert not Draft202012Validator(schema).is_valid(answer)

    def test_one_call_at_most(self) -> None:
        use = use_of(response_format={"type": "json_object"}, parallel_tool_calls=False)
        checks = Draft202012Validator(json.loads(use.guide().text))
        assert checks.is_valid([NOW])
        assert checks.is_valid({"any": 1})
        assert not checks.is_valid([NOW, NOW])

    @pytest.mark.parametrize("schema", [{"type": "array"}, {}, {"anyOf": [{"type": "object"}]}])
    def test_an_answer_that_may_be_a_list_is_refused(self, schema: dict[str, Any]) -> None:
        shape = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        with pytest.raises(RequestError, match="type must be object"):
            use_of(response_format=shape)

    @pytest.mark.parametrize("options", [{}, {"tool_choice": "required"}, {"response_format": AS_PERSON}])
    def test_structured_outputs_leave_no_room_for_calls(self, options: dict[str, Any]) -> None:
        with pytest.raises(RequestError) as caught:
            use_of(structured_outputs={"regex": "a+"}, **options)
        assert caught.value.param == "structured_outputs"
