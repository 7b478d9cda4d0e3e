"""Whatever an answer says, its stream is server-sent events, and every client reads the same out of them."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from openai._streaming import SSEDecoder

from openllm.api.answer import ChoiceEvent
from openllm.api.chunks import ChunkWriter, Envelope
from openllm.api.event_stream import DONE, comment
from openllm.chat.events import Finished, ReasoningDelta, TextDelta, ToolCallDelta
from tests.fuzz.budget import fuzz

ANY = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
LINES = st.sampled_from(["\n", "\r", "\r\n", "\u2028", "\n\n", "data: ", ": x", "\0", '"', "\\", "[DONE]"])
TEXTS = ANY | LINES
EVENTS = st.one_of(
    TEXTS.map(TextDelta),
    TEXTS.map(ReasoningDelta),
    st.builds(ToolCallDelta, index=st.integers(0, 3), arguments=TEXTS),
    st.builds(ToolCallDelta, index=st.integers(0, 3), id=ANY, name=ANY),
)
BATCHES = st.lists(st.lists(st.tuples(st.integers(0, 2), EVENTS), min_size=1, max_size=3), max_size=4)


def chunks(data: bytes, cuts: list[int]) -> list[dict[str, Any]]:
    """The chunks of a stream that arrives in pieces, read by the official client."""
    places = sorted({min(cut, len(data)) for cut in cuts})
    pieces = [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]
    found = [event.data for event in SSEDecoder().iter_bytes(iter(pieces))]
    assert found.pop() == "[DONE]"
    return [json.loads(event) for event in found]


@fuzz
@given(batches=BATCHES, cuts=st.lists(st.integers(0, 2000), max_size=6), model=ANY, quiet=ANY)
def test_a_stream_says_what_the_events_said(
    batches: list[list[ChoiceEvent]], cuts: list[int], model: str, quiet: str
) -> None:
    writer = ChunkWriter(
        Envelope.make("chatcmpl", "chat.completion.chunk", model),
        before=b'"delta":{"content":',
        after=b"}",
        empty={"delta": {}},
        opening={"delta": {"role": "assistant", "content": ""}},
        usage=False,
    )
    data = b"".join(writer.write(batch) + comment(quiet) for batch in batches)
    data += writer.write([(0, Finished("stop"))]) + DONE
    said: dict[int, list[dict[str, Any]]] = {}
    for chunk in chunks(data, cuts):
        assert chunk["model"] == model
        (choice,) = chunk["choices"]
        said.setdefault(choice["index"], []).append(choice)
    expected: dict[int, list[dict[str, Any]]] = {0: []}
    for batch in batches:
        for index, happened in batch:
            expected.setdefault(index, []).append(delta(happened))
    for index, deltas in expected.items():
        got = [choice["delta"] for choice in said[index]]
        assert got.pop(0) == {"role": "assistant", "content": ""}
        assert got == (deltas if index else [*deltas, {}])
    assert said[0][-1]["finish_reason"] == "stop"


def delta(happened: object) -> dict[str, Any]:
    match happened:
        case TextDelta(text):
            return {"content": text}
        case ReasoningDelta(text):
            return {"reasoning_content": text}
        case ToolCallDelta(index, identity, name, arguments):
            function = {"name": name, "arguments": ""} if identity else {"arguments": arguments}
            head = {"index": index, "id": identity, "type": "function"} if identity else {"index": index}
            return {"tool_calls": [{**head, "function": function}]}
    raise AssertionError(happened)
