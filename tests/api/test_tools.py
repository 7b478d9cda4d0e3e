"""Tools and reasoning through the official client. The model says the last message again, so each test writes the
answer that it wants to be read; real models' formats are in tests/chat."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel

from tests.parrot import NAME, write_recipe
from tests.serving import MODEL, Served, serving

# Of no type: the client's own types of parameters are TypedDicts.
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
NOW: Any = {"type": "function", "function": {"name": "now"}}
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Köln"}}\n</tool_call>'
SECOND = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
NAMED = {"type": "function", "function": {"name": "get_weather"}}


@pytest.fixture(scope="module")
def parrot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("recipes")
    write_recipe(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENLLM_MODELS", str(folder))
        with serving(NAME, "--backend", "echo") as server:
            server.until_ready()
            yield server


@pytest.fixture(scope="module")
def bird(parrot: Served) -> Iterator[openai.OpenAI]:
    with parrot.client as client:
        yield client


def ask(client: openai.OpenAI, answer: str, **options: Any) -> Any:
    """The choice of a whole answer that says ``answer``."""
    options = {"tools": [WEATHER, NOW], **options}
    messages: Any = [{"role": "user", "content": answer}]
    return client.chat.completions.create(model=NAME, messages=messages, **options).choices[0]


def test_a_call_has_the_form_of_openais(bird: openai.OpenAI) -> None:
    choice = ask(bird, CALL)
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert call.id.startswith("call_")
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Köln"})


def test_text_and_parallel_calls(bird: openai.OpenAI) -> None:
    choice = ask(bird, f"Let me look.\n{CALL}\n{SECOND}")
    assert choice.message.content == "Let me look."
    assert [call.function.name for call in choice.message.tool_calls] == ["get_weather", "now"]
    assert len({call.id for call in choice.message.tool_calls}) == 2


def test_an_answer_without_calls(bird: openai.OpenAI) -> None:
    choice = ask(bird, "It is sunny. ")
    assert (choice.message.content, choice.message.tool_calls) == ("It is sunny. ", None)
    assert choice.finish_reason == "stop"


def test_parallel_calls_can_be_switched_off(bird: openai.OpenAI) -> None:
    choice = ask(bird, f"{CALL}\n{SECOND}", parallel_tool_calls=False)
    assert [call.function.name for call in choice.message.tool_calls] == ["get_weather"]
    assert choice.finish_reason == "tool_calls"


def test_a_call_that_is_cut_off(bird: openai.OpenAI) -> None:
    choice = ask(bird, CALL, max_tokens=22)
    assert choice.finish_reason == "length"
    (call,) = choice.message.tool_calls
    assert call.function.name == "get_weather"
    assert '{"city": "Köln"}'.startswith(call.function.arguments)


def test_what_is_no_call_is_text(bird: openai.OpenAI) -> None:
    answer = "<tool_call>weather, please</tool_call>"
    choice = ask(bird, answer)
    assert (choice.message.content, choice.finish_reason) == (answer, "stop")


@pytest.mark.parametrize(
    "answer", [CALL, f"Look:\n{CALL}\n{SECOND}", "Sunny.", f"<think>\nhm\n</think>\n\n{CALL}"]
)
def test_a_stream_says_what_a_whole_answer_says(bird: openai.OpenAI, answer: str) -> None:
    whole = ask(bird, answer).message
    text, reasoning = "", ""
    calls: dict[int, list[str]] = {}
    reasons = set()
    chunks: Any = bird.chat.completions.create(
        model=NAME,
        messages=[{"role": "user", "content": answer}],
        tools=[WEATHER, NOW],
        stream=True,
    )
    for chunk in chunks:
        delta = chunk.choices[0].delta
        text += delta.content or ""
        reasoning += getattr(delta, "reasoning_content", None) or ""
        for part in delta.tool_calls or []:
            assert part.function is not None
            if part.id:
                calls[part.index] = [part.function.name, ""]
            calls[part.index][1] += part.function.arguments or ""
        reasons.add(chunk.choices[0].finish_reason)
    assert text == (whole.content or "")
    assert reasoning == (getattr(whole, "reasoning_content", None) or "")
    expected = [[call.function.name, call.function.arguments] for call in whole.tool_calls or []]
    assert list(calls.values()) == expected
    assert reasons == {None, "tool_calls" if expected else "stop"}


def test_arguments_come_in_pieces(bird: openai.OpenAI) -> None:
    long = CALL.replace("Köln", "Llanfairpwllgwyngyll " * 5)
    with bird.chat.completions.stream(
        model=NAME,
        messages=[{"role": "user", "content": long}],
        tools=[WEATHER],
    ) as stream:
        deltas = [event for event in stream if event.type == "tool_calls.function.arguments.delta"]
        final = stream.get_final_completion().choices[0]
    assert len(deltas) > 5
    assert final.finish_reason == "tool_calls"
    assert final.message.tool_calls is not None
    assert "Llanfair" in final.message.tool_calls[0].function.arguments


class GetWeather(BaseModel):
    """Weather of a city."""

    city: str


def test_pydantic_tools_are_parsed(bird: openai.OpenAI) -> None:
    completion = bird.chat.completions.parse(
        model=NAME,
        messages=[{"role": "user", "content": CALL.replace("get_weather", "GetWeather")}],
        tools=[openai.pydantic_function_tool(GetWeather)],
    )
    (call,) = completion.choices[0].message.tool_calls or []
    assert call.function.parsed_arguments == GetWeather(city="Köln")


def test_a_loop_of_calls_and_results(bird: openai.OpenAI) -> None:
    call = ask(bird, CALL).message
    history = [
        {"role": "user", "content": "Weather?"},
        call,
        {"role": "tool", "tool_call_id": call.tool_calls[0].id},
    ]
    history[2]["content"] = "It is sunny."
    answer = bird.chat.completions.create(model=NAME, messages=history, tools=[WEATHER])
    assert answer.choices[0].message.content == "It is sunny."


def test_with_the_choice_none_nothing_is_called(bird: openai.OpenAI) -> None:
    choice = ask(bird, CALL, tool_choice="none")
    assert (choice.message.content, choice.message.tool_calls, choice.finish_reason) == (CALL, None, "stop")


def test_reasoning_is_parted_from_the_answer(bird: openai.OpenAI) -> None:
    message = ask(bird, "<think>\n1 + 1\n</think>\n\nTwo.", tools=openai.omit).message
    assert message.content == "Two."
    assert message.reasoning_content == "1 + 1"


def test_reasoning_tokens_are_counted(bird: openai.OpenAI) -> None:
    def counts(answer: str) -> tuple[int, int]:
        messages: Any = [{"role": "user", "content": answer}]
        usage = bird.chat.completions.create(model=NAME, messages=messages).usage
        assert usage is not None
        assert usage.completion_tokens_details is not None
        return usage.completion_tokens_details.reasoning_tokens or 0, usage.completion_tokens

    assert counts("Two.")[0] == 0
    reasoning, whole = counts("<think>\none and one\n</think>\n\nTwo.")
    assert 3 < reasoning < whole


def test_every_choice_is_read_by_itself(bird: openai.OpenAI) -> None:
    answer = bird.chat.completions.create(
        model=NAME,
        messages=[{"role": "user", "content": f"<think>a</think>{CALL}"}],
        tools=[WEATHER],
        n=3,
    )
    assert (
        len({choice.message.tool_calls[0].id for choice in answer.choices if choice.message.tool_calls}) == 3
    )


@pytest.mark.parametrize(
    ("options", "content"),
    [
        ({"reasoning_effort": "none"}, "Quiet: Hi"),
        ({"reasoning_effort": "high"}, "Hi"),
        ({"extra_body": {"chat_template_kwargs": {"enable_thinking": False}}}, "Quiet: Hi"),
        (
            {"reasoning_effort": "none", "extra_body": {"chat_template_kwargs": {"enable_thinking": True}}},
            "Hi",
        ),
    ],
)
def test_the_template_is_switched(bird: openai.OpenAI, options: dict[str, Any], content: str) -> None:
    assert ask(bird, "Hi", **options).message.content == content


def refused(client: openai.OpenAI, **options: Any) -> openai.BadRequestError:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, "Hi", **options)
    return caught.value


def tool(name: str = "f", **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **more}}


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"tool_choice": {"type": "function", "function": {"name": "gone"}}}, "tool_choice"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice"),
        ({"tools": openai.omit, "tool_choice": NAMED}, "tool_choice"),
        ({"tools": [tool(), tool()]}, "tools[1].function.name"),
        ({"tools": [tool(parameters={"type": "objekt"})]}, "tools[0].function.parameters"),
        ({"tools": [tool(parameters={"type": "array"})]}, "tools[0].function.parameters"),
        ({"tools": [tool(parameters={"properties": {"a": 5}})]}, "tools[0].function.parameters"),
        ({"tools": [tool("a b")]}, "tools.0.function.name"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools.0.custom"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"reasoning_effort": "enormous"}, "reasoning_effort"),
        (
            {"extra_body": {"chat_template_kwargs": {"enable_thinkin": False}}},
            "chat_template_kwargs.enable_thinkin",
        ),
        ({"extra_body": {"chat_template_kwargs": {"messages": []}}}, "chat_template_kwargs.messages"),
        ({"extra_body": {"continue_final_message": True}}, "continue_final_message"),
    ],
)
def test_what_cannot_be_is_refused(bird: openai.OpenAI, options: dict[str, Any], param: str) -> None:
    error = refused(bird, **options)
    assert error.param == param, error.message


def test_a_message_goes_on(bird: openai.OpenAI) -> None:
    answer = bird.chat.completions.create(
        model=NAME,
        messages=[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello the"}],
        max_tokens=4,
        extra_body={"continue_final_message": True},
    )
    assert "".join((answer.choices[0].message.content or "").split()) == "HellotheHellothe"


def test_a_model_whose_calls_are_unknown_refuses_to_choose(http: httpx.Client) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "tools": [NOW]}
    answer = http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "tools"
    assert "tool_choice" in answer.json()["error"]["message"]


def test_a_model_without_a_switch_refuses_it(http: httpx.Client) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "reasoning_effort": "low"}
    assert http.post("/v1/chat/completions", json=body).json()["error"]["param"] == "reasoning_effort"
    answer = http.post("/v1/chat/completions", json={**body, "reasoning_effort": "none", "max_tokens": 1})
    assert answer.status_code == 200  # it does not reason anyway
