"""Answers as models write them, with what is in them."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from openllm.chat.answer_format import AnswerFormat
from openllm.chat.events import Event, Finished, ReasoningDelta, TextDelta, ToolCallDelta
from openllm.chat.parsing.parser import AnswerParser

TOOLS: dict[str, dict[str, Any]] = {
    "get_weather": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "array", "items": {"type": "integer"}},
            "unit": {"enum": ["C", "F"]},
            "exact": {"type": "boolean"},
            "where": {"$ref": "#/$defs/place"},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        },
        "$defs": {"place": {"type": "object"}},
    },
    "now": {},
}


class Read(NamedTuple):
    """An answer that was read: its text, its reasoning, and its calls as names and argument texts."""

    text: str
    reasoning: str
    calls: tuple[tuple[str, str], ...]

    def parsed(self) -> list[tuple[str, Any]]:
        """The calls, their arguments decoded."""
        return [(name, json.loads(arguments)) for name, arguments in self.calls]


def fold(events: list[Event]) -> Read:
    """Put events together; checks that they come as they must."""
    text, reasoning = "", ""
    calls: list[list[str]] = []
    for event in events:
        match event:
            case TextDelta():
                assert event.text
                text += event.text
            case ReasoningDelta():
                assert event.text
                reasoning += event.text
            case ToolCallDelta(index=index, id=identity, name=name, arguments=arguments):
                if identity:
                    assert index == len(calls)
                    assert name
                    assert not arguments
                    calls.append([name, ""])
                else:
                    assert arguments
                    assert not name
                    assert index == len(calls) - 1
                    calls[index][1] += arguments
            case Finished():
                raise AssertionError("a parser does not know why an answer ended")
    return Read(text, reasoning, tuple((name, arguments) for name, arguments in calls))


def read(parser: AnswerParser | None, *pieces: str) -> Read:
    """What a parser makes of an answer that comes in ``pieces``."""
    assert parser is not None
    events = [event for piece in pieces for event in parser.push(piece)]
    return fold(events + parser.finish())


def parser_of(tools: str, reasoning: str = "none", prompt: str = "", most: int | None = None) -> AnswerParser:
    """A parser of these formats, with ``TOOLS``."""
    made = AnswerFormat(tools, reasoning).parser(TOOLS, prompt, most)
    assert made is not None
    return made
