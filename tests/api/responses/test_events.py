"""A response's stream, read as OpenAI's own client reads it, gives what the whole response is."""

from __future__ import annotations

from typing import Any

import openai
from hypothesis import given
from hypothesis import strategies as st
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from openllm.api.answer import Usage
from openllm.api.pieces import Pieces
from openllm.api.responses.body import ResponseBody
from openllm.api.responses.events import EventWriter
from openllm.api.responses.request import ResponseRequest
from openllm.chat.events import Event, Finished, TextDelta, TextLogprobs, TokenLogprob
from openllm.errors import RunnerDied
from tests.api.happenings import ANSWER, answers, batches
from tests.api.sse import events as read

USAGE = Usage(prompt_tokens=9, completion_tokens=20, cached_tokens=4, reasoning_tokens=6)
NOW = 1_700_000_000
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def response(**options: Any) -> ResponseBody:
    return ResponseBody(ResponseRequest(model="m", input="Hi", **options), "abc", NOW)


def streamed(events: list[Event], sizes: list[int] | None = None) -> list[dict[str, Any]]:
    writer = EventWriter(response(), clock=lambda: NOW)
    chunks = [writer.write(batch) for batch in batches(events, sizes or [])]
    return read(b"".join([*chunks, writer.end(USAGE)]))


def whole(events: list[Event]) -> dict[str, Any]:
    answer = Pieces()
    for happened in events:
        answer.take(happened)
    assert answer.finished is not None
    return response().finished(answer.pieces, answer.finished.reason, USAGE, NOW)


@given(answers(), st.lists(st.integers(1, 5), max_size=6))
def test_the_last_event_holds_the_whole_response(
    answer: tuple[list[tuple[str, str]], list[Event]], sizes: list[int]
) -> None:
    events = answer[1]
    told = streamed(events, sizes)
    assert told[-1]["response"] == whole(events)
    assert told[-1]["type"] == f"response.{told[-1]['response']['status']}"
    assert [event["sequence_number"] for event in told] == list(range(len(told)))


@given(answers())
def test_the_deltas_add_up_to_the_items(answer: tuple[list[tuple[str, str]], list[Event]]) -> None:
    told = streamed(answer[1])
    items: dict[int, dict[str, Any]] = {}
    texts: dict[int, str] = {}
    for event in told:
        index = event.get("output_index", -1)
        if event["type"].endswith(".delta"):
            texts[index] += event["delta"]
            assert event["item_id"] == items[index]["id"]
        elif event["type"] == "response.output_item.added":
            assert event["item"]["status"] == "in_progress"
            items[index] = event["item"]
            texts[index] = ""
        elif event["type"] == "response.output_item.done":
            assert event["item"]["id"] == items[index]["id"]
            items[index] = event["item"]
    assert list(items.values()) == told[-1]["response"]["output"]
    assert list(texts.values()) == [text for _, text in answer[0]]


@given(answers())
def test_the_official_client_understands_every_event(
    answer: tuple[list[tuple[str, str]], list[Event]],
) -> None:
    told = streamed(answer[1])
    state: ResponseStreamState[Any] = ResponseStreamState(input_tools=openai.omit, text_format=openai.omit)
    for event in told:
        parsed = EVENT.validate_python(event)
        assert parsed.type == event["type"]
        state.handle_event(parsed)
    if told[-1]["type"] == "response.completed":
        assert state._completed_response is not None
        expected = "".join(text for kind, text in answer[0] if kind == "text")
        assert state._completed_response.output_text == expected


def test_the_order_of_a_full_answer() -> None:
    kinds = [event["type"].removeprefix("response.") for event in streamed(ANSWER)]
    assert kinds == [
        "created", "in_progress",
        "output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.delta",
        "reasoning_text.done", "content_part.done", "output_item.done",
        "output_item.added", "content_part.added", "output_text.delta", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done",
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.delta",
        "function_call_arguments.done", "output_item.done",
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done",
        "completed",
    ]  # fmt: skip


def test_a_whole_response_is_one_of_openais() -> None:
    body = whole(ANSWER)
    parsed = Response.model_validate(body)
    assert parsed.output_text == "I ask twice. 😀"
    assert [item.type for item in parsed.output] == ["reasoning", "message", "function_call", "function_call"]
    assert parsed.usage is not None
    assert (parsed.usage.input_tokens, parsed.usage.total_tokens) == (9, 29)
    assert parsed.usage.output_tokens_details.reasoning_tokens == 6
    assert parsed.completed_at == NOW


def test_an_answer_that_a_limit_cut_off_is_incomplete() -> None:
    told = streamed([TextDelta("Once"), Finished("length")])
    last = told[-1]["response"]
    assert told[-1]["type"] == "response.incomplete"
    assert last["incomplete_details"] == {"reason": "max_output_tokens"}
    assert [item["status"] for item in last["output"]] == ["incomplete"]


def test_logprobs_go_with_their_deltas_and_stand_in_the_item() -> None:
    token = TokenLogprob("Hi", b"Hi", -0.5)
    told = streamed([TextDelta("Hi", (TextLogprobs(token, (token,)),)), Finished("stop")])
    entry = {"token": "Hi", "bytes": [72, 105], "logprob": -0.5}
    expected = [{**entry, "top_logprobs": [entry]}]
    delta = next(event for event in told if event["type"] == "response.output_text.delta")
    assert delta["logprobs"] == expected
    assert told[-1]["response"]["output"][0]["content"][0]["logprobs"] == expected


def test_a_failure_comes_as_an_error_and_a_failed_response() -> None:
    writer = EventWriter(response())
    told = read(writer.write([(0, TextDelta("Once"))]) + writer.fail(RunnerDied("The engine ended.")))
    assert [event["type"] for event in told[-2:]] == ["error", "response.failed"]
    assert told[-2]["code"] == "runner_died"
    failed = told[-1]["response"]
    assert (failed["status"], failed["error"]["code"]) == ("failed", "server_error")
    assert failed["output"][0]["content"][0]["text"] == "Once"
    for event in told:
        EVENT.validate_python(event)


def test_a_failure_before_anything_is_a_stream_too() -> None:
    kinds = [event["type"] for event in read(EventWriter(response()).fail(RunnerDied("Gone.")))]
    assert kinds == ["response.created", "response.in_progress", "error", "response.failed"]


def test_what_was_asked_is_said_again() -> None:
    function = {"type": "function", "name": "f", "parameters": {"type": "object"}}
    body = response(
        tools=[function], tool_choice={"type": "function", "name": "f"}, metadata={"a": "b"}, temperature=0
    ).unfinished("in_progress")
    assert body["tools"] == [{**function, "description": None, "strict": True}]
    assert body["tool_choice"] == {"type": "function", "name": "f"}
    assert (body["metadata"], body["temperature"], body["top_p"]) == ({"a": "b"}, 0, 1.0)
    assert Response.model_validate(body).status == "in_progress"
