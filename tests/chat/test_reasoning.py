"""Reasoning is parted from the answer, whoever opens it."""

from __future__ import annotations

import pytest

from openllm.chat.answer_format import AnswerFormat
from openllm.chat.events import Event, ReasoningDelta
from tests.chat.answers import Read, parser_of, read

CALL = '<tool_call>{"name": "now", "arguments": {}}</tool_call>'


@pytest.mark.parametrize(
    ("format_", "prompt", "answer", "text", "reasoning"),
    [
        ("think", "", "<think>\nlet me see\n</think>\n\nFour. ", "Four. ", "let me see"),
        ("think", "assistant\n<think>\n", "let me see\n</think>\n\nFour.", "Four.", "let me see"),
        ("think", "assistant\n<think>\n", "<think>again</think>Four.", "Four.", "again"),
        ("think", "<think>\n\n</think>\n\n", "Four.", "Four.", ""),
        ("think", "", "<think>\n\n</think>\n\nFour.", "Four.", ""),
        ("think", "", "\n Four <think> is", "\n Four <think> is", ""),
        ("think", "", "<think>cut  ", "", "cut"),
        ("think", "<think>", "a < b </thin", "", "a < b </thin"),
        ("mistral", "", "[THINK]see[/THINK]Four.", "Four.", "see"),
        ("granite", "", "Here is my thought process:\nsee\n\nHere is my response:\nFour.", "Four.", "see"),
        ("granite", "", "Here is my answer: Four.", "Here is my answer: Four.", ""),
        ("gemma", "", "<|channel>thought\nsee\n<channel|>Four.", "Four.", "see"),
        ("gemma", "model\n<|channel>thought\n<channel|>", "Four.", "Four.", ""),
        (
            "harmony",
            "",
            "<|channel|>analysis<|message|>see<|end|><|start|>assistant<|channel|>final<|message|>Four.<|return|>",
            "Four.",
            "see",
        ),
    ],
)
def test_reasoning_is_read(format_: str, prompt: str, answer: str, text: str, reasoning: str) -> None:
    expected = Read(text, reasoning, ())
    for tools in ("none", "hermes"):
        assert read(parser_of(tools, format_, prompt), answer) == expected
        assert read(parser_of(tools, format_, prompt), *answer) == expected


def test_calls_follow_reasoning() -> None:
    found = read(parser_of("hermes", "think"), *f"<think>{CALL}?</think>\n\nWell.\n{CALL}")
    assert found == Read("Well.", f"{CALL}?", (("now", "{}"),))


def test_reasoning_comes_while_it_is_thought() -> None:
    parser = parser_of("none", "think")
    assert read_texts(parser.push("<think>\nlet")) == ["let"]
    assert read_texts(parser.push(" me")) == [" me"]


def read_texts(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, ReasoningDelta)]


def test_plain_answers_need_no_parser() -> None:
    assert AnswerFormat("hermes", "none").parser({}, "") is None
    assert AnswerFormat("none", "none").parser({"now": {}}, "") is None


def test_calls_without_tools_are_text() -> None:
    parser = AnswerFormat("hermes", "think").parser({}, "")
    assert read(parser, CALL) == Read(CALL, "", ())
    message = "<|channel|>commentary to=functions.now<|message|>{}"
    assert read(AnswerFormat("harmony", "harmony").parser({}, ""), message) == Read(message, "", ())


@pytest.mark.parametrize(
    ("format_", "prompt", "opening"),
    [
        ("think", "<think>\n", "</think>\n\n"),
        ("think", "<think></think>", ""),
        ("none", "<think>", ""),
        (
            "harmony",
            "<|start|>assistant",
            "<|channel|>commentary to=functions.now <|constrain|>json<|message|>",
        ),
    ],
)
def test_a_forced_call_leaves_reasoning_out(format_: str, prompt: str, opening: str) -> None:
    assert AnswerFormat("none", format_).forced_opening(prompt, "now") == opening
