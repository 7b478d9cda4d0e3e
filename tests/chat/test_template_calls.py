"""What published templates write for a call is read back as that call, whatever format they write it in."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from openllm.chat.answer_format import AnswerFormat
from openllm.chat.call_messages import fit_calls
from openllm.chat.call_traits import CallTraits, call_traits
from openllm.chat.messages import template_messages
from openllm.chat.template import ChatTemplate
from openllm.chat.template_traits import template_traits
from openllm.errors import RequestError
from openllm.weights.chat_guess import guess_chat
from tests.chat.answers import Read, read
from tests.chat.test_template import SPECIAL, TEMPLATES, Apply, apply_chat_template

__all__ = ["apply_chat_template"]  # a fixture

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "where"},
        "days": {"type": "array", "items": {"type": "integer"}},
        "exact": {"type": "boolean"},
        "ratio": {"type": "number"},
        "text": {"type": "string"},
        "place": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "required": ["city"],
}
SCHEMAS = {"get_weather": SCHEMA, "now": {"type": "object", "properties": {}}}
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": name, "description": "A tool.", "parameters": schema}}
    for name, schema in SCHEMAS.items()
]
WEATHER = {
    "city": 'Köln "am Rhein" 🦙',
    "days": [1, 2],
    "exact": True,
    "ratio": 0.5,
    "text": "a\n  b <c> {d} [e] \\ 1\n",
    "place": {"a": "1", "b": "<x>"},
}
CALLS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "one": [("get_weather", WEATHER)],
    "no arguments": [("now", {})],
    "two": [("get_weather", WEATHER), ("now", {})],
}
# What models end an answer with; it is not part of it.
_ENDS = re.compile(
    r"\s*(<\|im_end\|>|</s>|<\|eot_id\|>|<\|end_of_text\|>|<\|role_end\|>|</assistant>|<sep>|\n<\|end\|>|<\|call\|>"
    r"|<\uff5cend\u2581of\u2581sentence\uff5c>|<\|tool_response>).*",
    re.DOTALL,
)
# The beginning of reasoning, or reasoning that is over, at the end of a prompt.
_THINKING = re.compile(r"(<think>\s*(</think>)?|<\|channel>thought\s*<channel\|>)\s*$")
# Its template appends to a list, which the sandbox does not allow, transformers' neither.
_BROKEN = {"Kimi-K2-Instruct"}
# Its template puts text without quoting it between quotes.
_UNQUOTED = {"LFM2.5-8B-A1B"}


class Case:
    """A template and its conversation."""

    def __init__(self, path: Path) -> None:
        self.source = path.read_text()
        self.template = ChatTemplate(self.source, SPECIAL)
        self.traits = call_traits(self.source)
        guess = guess_chat(self.source)
        self.format = AnswerFormat(guess.tools, guess.reasoning)

    def render(self, messages: list[dict[str, Any]], *, prompt: bool) -> str:
        fitted = fit_calls(template_messages(messages, template_traits(self.source)), self.traits)
        return self.template.render(fitted, tools=TOOLS, add_generation_prompt=prompt)

    def answer(self, message: dict[str, Any]) -> tuple[str, str]:
        """A prompt, and what the template writes for an assistant's message behind it."""
        prompt = self.render([USER], prompt=True)
        whole = self.render([USER, message], prompt=False)
        over = ""
        if not whole.startswith(prompt):  # it writes no reasoning where there was none
            prompt, over = _THINKING.sub("", prompt), "</think>"
        assert whole.startswith(prompt), (prompt[-100:], whole[-300:])
        return prompt, _ENDS.sub("", whole[len(prompt) :].removeprefix(over))


USER = {"role": "user", "content": "How is the weather?"}


def message(calls: list[tuple[str, dict[str, Any]]], content: str = "") -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": content,
        "tool_calls": [
            {"id": f"call_{i}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for i, (name, arguments) in enumerate(calls)
        ],
    }  # fmt: skip


def known() -> list[Path]:
    """The templates whose format is certain."""
    return [path for path in TEMPLATES if guess_chat(path.read_text()).tools != "none"]


@pytest.mark.skipif(not TEMPLATES, reason="there is no folder of reference templates beside the repository")
def test_enough_formats_are_known() -> None:
    assert len(known()) >= 24
    assert len({guess_chat(path.read_text()).tools for path in known()}) >= 10


@pytest.mark.parametrize("calls", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("content", ["", "Let me look."])
@pytest.mark.parametrize("path", known(), ids=lambda path: path.stem)
def test_a_written_call_is_read_back(
    path: Path, content: str, calls: list[tuple[str, dict[str, Any]]]
) -> None:
    case = Case(path)
    if path.stem in _BROKEN:
        with pytest.raises(RequestError, match="append"):
            case.render([USER, message(calls)], prompt=False)
        return
    if path.stem in _UNQUOTED:
        calls = [(name, {**given, "text": "a b"} if given else given) for name, given in calls]
    prompt, answer = case.answer(message(calls, content))
    if case.traits.single:
        calls = calls[:1]  # the others are turns of their own
    found = read(case.format.parser(SCHEMAS, prompt), answer)
    assert found.parsed() == calls, answer
    assert found.text.strip() in ("", content)
    assert read(case.format.parser(SCHEMAS, prompt), *answer) == found


@pytest.mark.parametrize("path", known(), ids=lambda path: path.stem)
def test_results_come_behind_their_calls(path: Path) -> None:
    if path.stem in _BROKEN:
        pytest.skip("its template is refused")
    case = Case(path)
    conversation = [
        USER,
        message(CALLS["two"]),
        {"role": "tool", "tool_call_id": "call_1", "content": "noon"},
        {"role": "tool", "tool_call_id": "call_0", "content": "sunny"},
        {"role": "assistant", "content": "Sunny at noon."},
        {"role": "user", "content": "Thanks."},
    ]
    text = case.render(conversation, prompt=True)
    assert {"noon", "sunny", "Thanks."} <= set(re.findall(r"noon|sunny|Thanks\.", text.split("How is")[1]))
    if case.traits.single:
        assert text.index("sunny") < text.index("noon")


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_conversations_render_as_transformers(path: Path, apply_chat_template: Apply) -> None:
    """With all that we do to messages; but for ids and single calls, which we fit to the template."""
    case = Case(path)
    if case.traits.single or case.traits.ids != "any" or not case.traits.tools:
        pytest.skip("its messages are changed on purpose, or it takes no tools")
    conversation = [
        {"role": "system", "content": "Be brief."},
        USER,
        message(CALLS["two"], "Let me look."),
        {"role": "tool", "tool_call_id": "call_0", "content": "sunny"},
        {"role": "tool", "tool_call_id": "call_1", "content": "noon"},
    ]
    parsed = json.loads(json.dumps(conversation))
    for call in parsed[2]["tool_calls"]:
        call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    traits = template_traits(case.source)
    if not traits.text:
        parsed = [{**entry, "content": [{"type": "text", "text": entry["content"]}]} for entry in parsed]
    try:
        expected = apply_chat_template(case.source, parsed, tools=TOOLS, add_generation_prompt=True)
    except Exception:  # a template's refusal, or any error of Python's in it
        with pytest.raises(RequestError):
            case.render(conversation, prompt=True)
    else:
        assert case.render(conversation, prompt=True) == expected


@pytest.mark.parametrize(
    ("name", "traits"),
    [
        ("meta-llama-Llama-3.1-8B-Instruct", {"tools": True, "single": True, "reasoning": ""}),
        ("mistralai-Mistral-Nemo-Instruct-2407", {"tools": True, "ids": "short", "reasoning": ""}),
        ("moonshotai-Kimi-K2", {"tools": True, "ids": "numbered", "reasoning": ""}),
        ("openai-gpt-oss-120b", {"tools": True, "single": True, "reasoning": "thinking"}),
        ("Qwen-Qwen3-0.6B", {"tools": True}),
        ("mistralai-Ministral-3-14B-Reasoning-2512", {"tools": True, "reasoning": "part"}),
        ("google-gemma-2-2b-it", {"reasoning": ""}),
        ("deepseek-ai-DeepSeek-V3.1", {"reasoning": ""}),
    ],
)
def test_traits_of_real_templates(shared_folder: Path, name: str, traits: dict[str, Any]) -> None:
    found = call_traits((shared_folder / "templates" / f"{name}.jinja").read_text())
    assert found == CallTraits(variables=found.variables, **traits)


@pytest.mark.parametrize(
    ("name", "switch", "effort"),
    [
        ("Qwen-Qwen3-0.6B", "enable_thinking", ""),
        ("deepseek-ai-DeepSeek-V4", "enable_thinking", "reasoning_effort"),
        ("openai-gpt-oss-120b", "", "reasoning_effort"),
        ("Kimi-K3", "thinking", "thinking_effort"),
        ("Qwen-Qwen2.5-7B-Instruct", "", ""),
    ],
)
def test_switches_of_real_templates(shared_folder: Path, name: str, switch: str, effort: str) -> None:
    found = call_traits((shared_folder / "templates" / f"{name}.jinja").read_text())
    assert (found.switch, found.effort) == (switch, effort)


@pytest.mark.parametrize(
    ("prompted", "answer"),
    [({}, "<think>\nsee\n</think>\n\nFour."), ({"enable_thinking": False}, "Four.")],
)
def test_reasoning_of_qwen3(shared_folder: Path, prompted: dict[str, Any], answer: str) -> None:
    source = (shared_folder / "templates" / "Qwen-Qwen3-0.6B.jinja").read_text()
    prompt = ChatTemplate(source, SPECIAL).render([USER], **prompted)
    found = read(AnswerFormat("hermes", "think").parser({}, prompt), answer)
    assert found == Read("Four.", "" if prompted else "see", ())


def test_reasoning_that_glms_template_opens(shared_folder: Path) -> None:
    source = (shared_folder / "templates" / "GLM-4.7-Flash.jinja").read_text()
    template = ChatTemplate(source, SPECIAL)
    opened = AnswerFormat("glm", "think").parser(SCHEMAS, template.render([USER]))
    assert read(opened, "see</think>Four.") == Read("Four.", "see", ())
    closed = AnswerFormat("glm", "think").parser(SCHEMAS, template.render([USER], enable_thinking=False))
    assert read(closed, "Four.") == Read("Four.", "", ())
