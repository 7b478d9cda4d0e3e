"""A message's stream, read as Anthropic's own client reads it, gives what the whole message is."""

from __future__ import annotations

from typing import Any, cast

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from openllm.api.answer import Usage
from openllm.api.messages.body import UNSIGNED, MessageBody
from openllm.api.messages.events import MessageWriter, ping
from openllm.api.pieces import Pieces
from openllm.chat.events import Event, Finished, TextDelta, ToolCallDelta
from openllm.errors import Overloaded
from tests.api.happenings import ANSWER, answers, batches
from tests.api.sse import events as read

USAGE = Usage(prompt_tokens=9, completion_tokens=20, cached_tokens=4, reasoning_tokens=6)
BODY = MessageBody("msg_abc", "m", 20)
EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


def streamed(events: list[Event], sizes: list[int] | None = None) -> list[dict[str, Any]]:
    writer = MessageWriter(BODY)
    writer.usage = USAGE
    chunks = [writer.write(batch) for batch in batches(events, sizes or [])]
    return read(b"".join([*chunks, writer.end()]))


def whole(events: list[Event], usage: Usage = USAGE) -> dict[str, Any]:
    answer = Pieces()
    for happened in events:
        answer.take(happened)
    return BODY.finished(answer, usage)


def accumulated(told: list[dict[str, Any]]) -> dict[str, Any]:
    """What the client makes of a stream."""
    snapshot = None
    buffers: dict[int, bytes] = {}
    for event in told:
        parsed = cast(RawMessageStreamEvent, EVENT.validate_python(event))
        snapshot = accumulate_event(event=parsed, current_snapshot=snapshot, json_bufs=buffers)
    assert snapshot is not None
    return snapshot.to_dict()


def without_calls(events: list[Event]) -> list[Event]:
    return [happened for happened in events if not isinstance(happened, ToolCallDelta)]


@given(answers(), st.lists(st.integers(1, 5), max_size=6))
def test_the_client_accumulates_the_whole_message(
    answer: tuple[list[tuple[str, str]], list[Event]], sizes: list[int]
) -> None:
    events = without_calls(answer[1])  # whose arguments are random, and no JSON, here
    assert accumulated(streamed(events, sizes)) == whole(events)


def test_a_full_answer_is_the_same_in_a_stream() -> None:
    assert accumulated(streamed(ANSWER)) == whole(ANSWER)


def test_the_order_of_a_full_answer() -> None:
    told = streamed(ANSWER)
    block = ["content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"]
    thinking = [*block[:3], "content_block_delta", block[3]]  # the signature is the last delta
    kinds = [event["type"] for event in told]
    rest = [*block, *block, *block[:2], block[3], "message_delta", "message_stop"]
    assert kinds == ["message_start", *thinking, *rest]
    assert told[0]["message"]["content"] == []
    assert [event["index"] for event in told if event["type"] == "content_block_stop"] == [0, 1, 2, 3]


def test_a_whole_message_is_one_of_anthropics() -> None:
    message = Message.model_validate(whole(ANSWER))
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert message.content[0].to_dict()["signature"] == UNSIGNED
    assert message.content[2].to_dict()["input"] == {"city": "Paris"}
    assert (message.stop_reason, message.stop_sequence) == ("tool_use", None)
    assert message.usage.output_tokens_details is not None
    assert message.usage.output_tokens_details.thinking_tokens == 6
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (5, 4)


@pytest.mark.parametrize(
    ("finished", "tokens", "reason", "sequence"),
    [
        (Finished("stop"), 3, "end_turn", None),
        (Finished("stop", "END"), 3, "stop_sequence", "END"),
        (Finished("length"), 20, "max_tokens", None),
        (Finished("length"), 7, "model_context_window_exceeded", None),
        (Finished("tool_calls"), 7, "tool_use", None),
    ],
)
def test_why_it_ended(finished: Finished, tokens: int, reason: str, sequence: str | None) -> None:
    body = whole([TextDelta("Hi"), finished], Usage(5, tokens))
    assert (body["stop_reason"], body["stop_sequence"]) == (reason, sequence)


def test_arguments_that_were_cut_off_are_what_there_is_of_them() -> None:
    call: list[Event] = [
        ToolCallDelta(0, "c", "f"),
        ToolCallDelta(0, arguments='{"a": 1, "b": [2, '),
        Finished("length"),
    ]
    assert whole(call)["content"][0]["input"] == {"a": 1, "b": [2]}
    assert accumulated(streamed(call)) == whole(call)


def test_an_error_is_an_event_of_its_own() -> None:
    told = read(MessageWriter(BODY).fail(Overloaded("Too much.")))
    assert told == [{"type": "error", "error": {"type": "overloaded_error", "message": "Too much."}}]


def test_a_ping_has_nothing_to_say() -> None:
    assert read(ping("loading")) == [{"type": "ping"}]
