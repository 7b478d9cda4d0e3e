"""Calls that guided decoding forces out of a small model, on the real engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.serving import MODEL, serving

TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a city.",
            "parameters": {
                "type": "object",
                "properties": {
                    "place": {"$ref": "#/$defs/place"},
                    "unit": {"type": "string", "enum": ["C", "F"]},
                },
                "required": ["place", "unit"],
                "additionalProperties": False,
                "$defs": {
                    "place": {
                        "type": "object",
                        "properties": {"city": {"type": "string", "maxLength": 20}},
                        "required": ["city"],
                        "additionalProperties": False,
                    }
                },
            },
        },
    },
    {"type": "function", "function": {"name": "now"}},
]
MESSAGES: Any = [{"role": "user", "content": "What is the weather in Paris?"}]
NAMED: Any = {"type": "function", "function": {"name": "get_weather"}}


class Place(BaseModel):
    city: str


class Weather(BaseModel):
    place: Place
    unit: str


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    with serving(MODEL) as server:
        server.until_ready()
        with server.client as made:
            yield made


@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize("choice", ["required", NAMED])
@pytest.mark.parametrize("parallel", [True, False])
def test_the_call_is_valid(client: openai.OpenAI, choice: Any, parallel: bool, temperature: float) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=MESSAGES,
        tools=TOOLS,
        tool_choice=choice,
        parallel_tool_calls=parallel,
        temperature=temperature,
        seed=1,
        top_p=0.5,  # a text of the call may go on for ever otherwise
        max_tokens=400,
    )
    (chosen,) = answer.choices
    assert chosen.message.content is None
    calls = chosen.message.tool_calls or []
    if choice == "required" and parallel and chosen.finish_reason == "length":
        calls = calls[:-1]  # a small model may go on calling until it is cut, in the middle of a call
    else:
        assert chosen.finish_reason == "tool_calls"
    assert calls
    assert parallel or len(calls) == 1
    for call in calls:
        assert isinstance(call, openai.types.chat.ChatCompletionMessageFunctionToolCall)
        assert call.function.name in ("get_weather", "now")
        if call.function.name == "get_weather":
            assert Weather.model_validate_json(call.function.arguments).unit in "CF"
        else:
            assert json.loads(call.function.arguments) == {}  # it has no parameters
    if choice is NAMED:
        assert [call.function.name for call in calls if call.type == "function"] == ["get_weather"]


def test_a_stream_says_the_same(client: openai.OpenAI) -> None:
    options: Any = {
        "model": MODEL,
        "messages": MESSAGES,
        "tools": TOOLS,
        "tool_choice": NAMED,
        "temperature": 0,
    }
    whole = client.chat.completions.create(**options).choices[0].message.tool_calls
    with client.chat.completions.stream(**options) as stream:
        streamed = stream.get_final_completion().choices[0]
    assert streamed.finish_reason == "tool_calls"
    assert whole
    assert streamed.message.tool_calls
    assert streamed.message.tool_calls[0].function.arguments == whole[0].function.arguments


@pytest.mark.parametrize(
    ("choice", "param", "options"),
    [
        (NAMED, "structured_outputs", {"extra_body": {"structured_outputs": {"regex": "a"}}}),
        ("required", "structured_outputs", {"extra_body": {"structured_outputs": {"json": {}}}}),
    ],
)
def test_a_forced_call_and_the_form_of_a_whole_answer_exclude_each_other(
    client: openai.OpenAI, choice: Any, param: str, options: dict[str, Any]
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model=MODEL, messages=MESSAGES, tools=TOOLS, tool_choice=choice, **options
        )
    assert caught.value.param == param


def test_a_response_format_is_of_the_text_that_a_forced_call_leaves_out(client: openai.OpenAI) -> None:
    """Some clients send both."""
    options: Any = {
        "model": MODEL,
        "messages": MESSAGES,
        "tools": TOOLS,
        "tool_choice": NAMED,
        "temperature": 0,
    }
    plain = client.chat.completions.create(**options).choices[0].message.tool_calls
    both = client.chat.completions.create(**options, response_format={"type": "json_object"}).choices[0]
    assert both.message.content is None
    assert plain
    assert both.message.tool_calls
    assert both.message.tool_calls[0].to_dict()["function"] == plain[0].to_dict()["function"]


@pytest.mark.parametrize("question", ["What is the weather in Paris?", "Who wrote Hamlet?", "Hello!"])
@pytest.mark.parametrize("temperature", [0, 1])
def test_a_call_or_an_answer_in_form(client: openai.OpenAI, question: str, temperature: float) -> None:
    """``tool_choice`` auto beside ``response_format``: which of them comes is the model's choice."""
    schema = {
        "type": "object",
        "properties": {"answer": {"type": "string", "maxLength": 40}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    options: Any = {
        "model": MODEL,
        "messages": [{"role": "user", "content": question}],
        "tools": TOOLS,
        "parallel_tool_calls": False,
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}},
        "temperature": temperature,
        "seed": 1,
    }
    (chosen,) = client.chat.completions.create(**options).choices
    calls = chosen.message.tool_calls
    if calls:
        assert chosen.finish_reason == "tool_calls"
        assert chosen.message.content is None
        assert [call.type for call in calls] == ["function"]
        (call,) = [each.to_dict()["function"] for each in calls]
        arguments = json.loads(call["arguments"])
        assert arguments == {} if call["name"] == "now" else Weather.model_validate(arguments).unit in "CF"
    else:
        assert chosen.finish_reason == "stop"
        assert list(json.loads(chosen.message.content or "")) == ["answer"]
    with client.chat.completions.stream(**options) as stream:
        streamed = stream.get_final_completion().choices[0].message
    assert (streamed.content or None) == chosen.message.content
    assert [each.function.arguments for each in streamed.tool_calls or []] == [
        each.to_dict()["function"]["arguments"] for each in calls or []
    ]
