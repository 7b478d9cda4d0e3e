"""Events of answers for the tests of what is made of them."""

from __future__ import annotations

from hypothesis import strategies as st

from openllm.chat.events import Event, Finished, ReasoningDelta, StopReason, TextDelta, ToolCallDelta

ANSWER: list[Event] = [
    ReasoningDelta("Let me "),
    ReasoningDelta("think."),
    TextDelta("I ask "),
    TextDelta("twice. 😀"),
    ToolCallDelta(0, "call_a", "weather"),
    ToolCallDelta(0, arguments='{"city":'),
    ToolCallDelta(0, arguments='"Paris"}'),
    ToolCallDelta(1, "call_b", "time"),
    ToolCallDelta(1, arguments="{}"),
    Finished("tool_calls"),
]
"""Reasoning, a text and two calls."""

_TEXT = st.text(st.sampled_from('ab {}"\\\n\u2028é😀'), min_size=1, max_size=12)
_Whole = tuple[str, str]  # a kind, and its text


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[_Whole], list[Event]]:
    """What an answer is, and one way in which its events may come."""
    kinds = draw(st.lists(st.sampled_from(["reasoning", "text", "call"]), max_size=5))
    wholes: list[_Whole] = []
    events: list[Event] = []
    calls = 0
    for kind in kinds:
        if kind != "call" and wholes and wholes[-1][0] == kind:
            continue  # it would be one piece
        text = draw(_TEXT)
        wholes.append((kind, text))
        if kind == "call":
            events.append(ToolCallDelta(calls, f"call_{calls}", "tool"))
        for part in draw(splits(text)):
            if kind == "call":
                events.append(ToolCallDelta(calls, arguments=part))
            else:
                events.append(TextDelta(part) if kind == "text" else ReasoningDelta(part))
        calls += kind == "call"
    reasons: list[StopReason] = ["tool_calls" if calls else "stop", "length"]
    events.append(Finished(draw(st.sampled_from(reasons))))
    return wholes, events


@st.composite
def splits(draw: st.DrawFn, text: str) -> list[str]:
    """The text in parts."""
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(text) - 1)), max_size=4)) & set(range(1, len(text))))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def batches(events: list[Event], sizes: list[int]) -> list[list[tuple[int, Event]]]:
    """The events of a choice, as many at once as ``sizes`` say, the rest one by one."""
    pairs: list[tuple[int, Event]] = [(0, happened) for happened in events]
    made = []
    for size in sizes:
        made.append(pairs[:size])
        pairs = pairs[size:]
    return [batch for batch in (*made, *([pair] for pair in pairs)) if batch]
