"""Parsers of calls and reasoning take any text, however it is split, and lose nothing."""

from __future__ import annotations

from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from openllm.chat.answer_format import AnswerFormat, forced_parser
from openllm.chat.parsing.parser import AnswerParser
from openllm.recipes.schema import ReasoningFormat, ToolFormat
from tests.chat.answers import TOOLS, read
from tests.chat.test_tool_calls import ANSWERS
from tests.fuzz.budget import fuzz

TOOL_FORMATS = get_args(ToolFormat)
REASONING_FORMATS = get_args(ReasoningFormat)
MARKS = sorted({mark for name in TOOL_FORMATS for mark in AnswerFormat(name).marks})
THOUGHTS = sorted({mark for name in REASONING_FORMATS for mark in AnswerFormat("none", name).marks})
# What stands in the middle of calls.
PARTS = [
    *('{"name": "', '"name"', "get_weather", "now", '", "arguments": {', '"parameters":', '"city": "Paris"'),
    *(
        "}",
        "{",
        "]",
        "[",
        '"',
        "'",
        "\\",
        ": ",
        ", ",
        "(",
        ")",
        "=",
        "call:",
        "functions.",
        ":0",
        "```json",
        " ",
    ),
    *(
        "<function=",
        "<parameter=",
        ">\n",
        "\n",
        "</parameter>",
        "</function>",
        " to=functions.now",
        "commentary",
    ),
    *(
        "analysis",
        "final",
        "json",
        "True",
        "null",
        "-1.5e3",
        "<",
        "|",
        "Here is ",
        "\u00e9",
        "🦙",
        ";",
        "functools",
    ),
]
PIECES = st.sampled_from([*MARKS, *THOUGHTS, *PARTS]) | st.text(max_size=8)
TEXTS = st.lists(PIECES, max_size=14).map("".join)
PROMPTS = st.sampled_from(["", "assistant\n", *THOUGHTS])
CUTS = st.lists(st.integers(0, 300), max_size=10)


def split(text: str, cuts: list[int]) -> list[str]:
    places = sorted({min(cut, len(text)) for cut in cuts})
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


@st.composite
def wounded(draw: st.DrawFn) -> tuple[str, str]:
    """A format, and an answer of its that is right but for some places."""
    tools, text, _, _ = draw(st.sampled_from(ANSWERS))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(PIECES | st.just("")) + text[at + draw(st.integers(0, 6)) :]
    return tools, text


def check_splits(make: AnswerParser | None, again: AnswerParser | None, text: str, cuts: list[int]) -> None:
    if make is None or again is None:
        assert make is again is None
        return
    whole = read(make, text)
    assert read(again, *split(text, cuts)) == whole
    if not whole.calls:
        rest = iter(text)  # nothing is made up: what is given stands in the answer, in this order
        assert all(character in rest for character in whole.reasoning + whole.text if not character.isspace())


@fuzz
@given(
    tools=st.sampled_from(TOOL_FORMATS),
    reasoning=st.sampled_from(REASONING_FORMATS),
    prompt=PROMPTS,
    text=TEXTS,
    cuts=CUTS,
    most=st.sampled_from([None, 1]),
)
def test_any_text_split_anyhow(
    tools: str, reasoning: str, prompt: str, text: str, cuts: list[int], most: int | None
) -> None:
    form = AnswerFormat(tools, reasoning)
    check_splits(form.parser(TOOLS, prompt, most), form.parser(TOOLS, prompt, most), text, cuts)


@fuzz
@given(answer=wounded(), cuts=CUTS, most=st.sampled_from([None, 1]))
def test_damaged_answers(answer: tuple[str, str], cuts: list[int], most: int | None) -> None:
    tools, text = answer
    form = AnswerFormat(tools)
    check_splits(form.parser(TOOLS, "", most), form.parser(TOOLS, "", most), text, cuts)


@fuzz
@given(text=TEXTS, cuts=CUTS, name=st.sampled_from([None, "now"]))
def test_forced_answers(text: str, cuts: list[int], name: str | None) -> None:
    check_splits(forced_parser(TOOLS, name, None), forced_parser(TOOLS, name, None), text, cuts)


@fuzz
@given(
    tools=st.sampled_from([name for name in TOOL_FORMATS if name not in ("none", "harmony")]),
    text=st.text(st.characters(exclude_characters='<[{"f', exclude_categories=["Cs"])),
)
def test_text_without_marks_is_given_as_it_is(tools: str, text: str) -> None:
    parser = AnswerFormat(tools).parser(TOOLS, "")
    assert read(parser, *text).text == text
