"""How a model writes its answers: which marks, and which parser reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from openllm.chat import harmony
from openllm.chat.parsing.incoming import Incoming, Steps
from openllm.chat.parsing.outgoing import Outgoing
from openllm.chat.parsing.parser import AnswerParser, Script
from openllm.chat.reasoning.marked import REASONING_MARKS, marked_reasoning
from openllm.chat.tool_calls import (
    deepseek_v3,
    forced,
    gemma,
    glm,
    granite,
    hermes,
    kimi,
    llama3_json,
    mistral,
    phi4,
    pythonic,
    qwen3_xml,
)
from openllm.chat.tool_calls.schemas import Tools

ReadTools = Callable[[Incoming, Outgoing, Tools], Steps[None]]
NONE = "none"
HARMONY = "harmony"


class _ToolsFormat(msgspec.Struct, frozen=True):
    """``marks`` may be special tokens, which are kept in the text then."""

    read: ReadTools
    marks: tuple[str, ...] = ()


_TOOLS: Mapping[str, _ToolsFormat] = {
    "deepseek_v3": _ToolsFormat(deepseek_v3.deepseek_v3, deepseek_v3.MARKS),
    "gemma": _ToolsFormat(gemma.gemma, gemma.MARKS),
    "glm": _ToolsFormat(glm.glm, glm.MARKS),
    "granite": _ToolsFormat(granite.granite, granite.MARKS),
    HARMONY: _ToolsFormat(harmony.harmony, harmony.MARKS),
    "hermes": _ToolsFormat(hermes.hermes, hermes.MARKS),
    "kimi": _ToolsFormat(kimi.kimi, kimi.MARKS),
    "llama3_json": _ToolsFormat(llama3_json.llama3_json, llama3_json.MARKS),
    "mistral": _ToolsFormat(mistral.mistral, mistral.MARKS),
    "phi4": _ToolsFormat(phi4.phi4, phi4.MARKS),
    "pythonic": _ToolsFormat(pythonic.pythonic, pythonic.MARKS),
    "qwen3_xml": _ToolsFormat(qwen3_xml.qwen3_xml, qwen3_xml.MARKS),
}


class AnswerFormat(msgspec.Struct, frozen=True):
    """The formats of a model's calls and reasoning, by their names in recipes."""

    tools: str = NONE
    reasoning: str = NONE

    @property
    def harmony(self) -> bool:
        """One format for both?"""
        return HARMONY in (self.tools, self.reasoning)

    @property
    def marks(self) -> frozenset[str]:
        """Texts that a parser must see, special tokens or not."""
        tools = HARMONY if self.harmony else self.tools
        marks = list(_TOOLS[tools].marks) if tools in _TOOLS else []
        if self.reasoning in REASONING_MARKS:
            marks += (*REASONING_MARKS[self.reasoning].starts, *REASONING_MARKS[self.reasoning].ends)
            if self.reasoning == "gemma":
                marks.append("<|channel>")
        return frozenset(marks)

    def parser(self, tools: Tools, prompt: str, most_calls: int | None = None) -> AnswerParser | None:
        """For one answer to ``prompt``, the rendered text, in which ``tools`` may be called, at most
        ``most_calls`` times; None where the answer is nothing but text."""
        reads_tools = bool(tools) and self.tools in _TOOLS
        if not self.harmony and not reads_tools and self.reasoning not in REASONING_MARKS:
            return None
        script = self._script(tools if reads_tools else {}, prompt)
        return AnswerParser(script, most_calls, holds_space=reads_tools)

    def forced_opening(self, prompt: str, name: str | None) -> str:
        """What goes behind ``prompt`` where a guide forces the answer to be a call, of the function ``name`` if it
        is known: the guide holds from the first token on, so there is no reasoning, and it is closed if it is open.
        """
        if self.harmony:
            return harmony.forced_opening(name)
        marks = REASONING_MARKS.get(self.reasoning)
        return f"{marks.ends[0]}\n\n" if marks is not None and marks.opened_by(prompt) else ""

    def _script(self, tools: Tools, prompt: str) -> Script:
        if self.harmony:
            return lambda source, out: harmony.harmony(source, out, tools)
        marks = REASONING_MARKS.get(self.reasoning)
        read = _TOOLS[self.tools].read if tools else _read_text

        def script(source: Incoming, out: Outgoing) -> Steps[None]:
            if marks is not None:
                yield from marked_reasoning(source, out, marks, opened=marks.opened_by(prompt))
            yield from read(source, out, tools)

        return script


def forced_parser(tools: Tools, name: str | None, most_calls: int | None) -> AnswerParser:
    """For an answer that a guide forces to be a call of the function ``name``, or calls of any of ``tools``."""
    if name is not None:
        function = name
        return AnswerParser(lambda source, out: forced.forced_function(source, out, function))
    return AnswerParser(lambda source, out: forced.forced_calls(source, out, tools), most_calls)


def calls_or_object_parser(tools: Tools, most_calls: int | None) -> AnswerParser:
    """For an answer that a guide forces to be a list of calls of ``tools``, or an object."""
    return AnswerParser(lambda source, out: forced.calls_or_object(source, out, tools), most_calls)


def _read_text(source: Incoming, out: Outgoing, tools: Tools) -> Steps[None]:
    return source.rest(out.text)
