"""Tool loops and structured outputs on the OpenVINO engine, through both official clients. Choices are forced: the
model is too small to choose."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import anthropic
import openai
from pydantic import BaseModel

from tests.serving import MODEL

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
FUNCTION: Any = {"type": "function", "name": "get_weather", "parameters": SCHEMA, "strict": True}
TOOL: Any = {"name": "get_weather", "description": "The weather of a city.", "input_schema": SCHEMA}
QUESTION = "What is the weather in Paris?"
GREEDY: dict[str, Any] = {"temperature": 0}


class Mood(StrEnum):
    GOOD = "good"
    BAD = "bad"


class Review(BaseModel):
    mood: Mood
    sure: bool


def test_a_tool_loop_of_responses(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {"model": MODEL, "tools": [FUNCTION], "temperature": 0, "max_output_tokens": 60}
    choice: Any = {"type": "function", "name": "get_weather"}
    first = client.responses.create(input=QUESTION, tool_choice=choice, **options)
    call = first.output[0]
    assert call.type == "function_call"
    assert (call.name, call.status) == ("get_weather", "completed")
    assert call.arguments.replace(" ", "") in ('{"city":"Paris"}', '{"city":"Rome"}')
    with client.responses.stream(input=QUESTION, tool_choice=choice, **options) as stream:
        streamed = stream.get_final_response().output[0]
    assert streamed.type == "function_call"
    assert streamed.arguments == call.arguments
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    second = client.responses.create(
        input=[result], previous_response_id=first.id, tool_choice="none", **options
    )
    kept = [item.type for item in client.responses.input_items.list(second.id, order="asc")]
    assert kept == ["message", "function_call", "function_call_output"]
    assert second.output_text


def test_a_tool_loop_of_messages(claude: anthropic.Anthropic) -> None:
    turns: list[Any] = [{"role": "user", "content": QUESTION}]
    options: dict[str, Any] = {"model": MODEL, "max_tokens": 60, "tools": [TOOL], "extra_body": GREEDY}
    choice: Any = {"type": "tool", "name": "get_weather"}
    first = claude.messages.create(messages=turns, tool_choice=choice, **options)
    use = first.content[0]
    assert first.stop_reason == "tool_use"
    assert use.type == "tool_use"
    assert use.input in ({"city": "Paris"}, {"city": "Rome"})
    with claude.messages.stream(messages=turns, tool_choice=choice, **options) as stream:
        streamed = stream.get_final_message().content[0]
    assert streamed.type == "tool_use"
    assert streamed.input == use.input
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}
    turns += [first.to_param(), {"role": "user", "content": [result]}]
    second = claude.messages.create(messages=turns, tool_choice={"type": "none"}, **options)
    assert second.content[0].type == "text"


def test_going_on_from_what_the_assistant_began_with(claude: anthropic.Anthropic) -> None:
    turns: Any = [
        {"role": "user", "content": "What is the capital of France?"},
        {"role": "assistant", "content": "The capital of France is"},
    ]
    message = claude.messages.create(model=MODEL, max_tokens=8, messages=turns, extra_body=GREEDY)
    assert message.content[0].type == "text"
    assert message.content[0].text.startswith(" Paris")


def test_structured_outputs(client: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    question = "Review: I love it. Answer as JSON."
    parsed = client.responses.parse(
        model=MODEL, input=question, text_format=Review, temperature=0, max_output_tokens=60
    )
    assert isinstance(parsed.output_parsed, Review)
    turns: Any = [{"role": "user", "content": question}]
    message = claude.messages.parse(
        model=MODEL, max_tokens=60, messages=turns, output_format=Review, extra_body=GREEDY
    )
    assert isinstance(message.parsed_output, Review)
