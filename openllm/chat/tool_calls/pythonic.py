"""``[name(key="value", …), …]``: calls as Python writes them. Llama 4, LFM2, ToolACE.

Source: Meta's documentation of Llama 4, "Zero-shot function calling"; LiquidAI/LFM2.5-8B-A1B, the chat template.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container

from openllm.chat.parsing.incoming import Incoming, Steps
from openllm.chat.parsing.outgoing import Outgoing
from openllm.chat.tool_calls.json_call import begin_call, is_name
from openllm.chat.tool_calls.literals import PYTHON, literal_value
from openllm.chat.tool_calls.marked import marked_calls
from openllm.chat.tool_calls.schemas import Tools

_STARTS = ("<|tool_call_start|>", "<|python_start|>")
_ENDS = ("<|tool_call_end|>", "<|python_end|>")
MARKS = (*_STARTS, *_ENDS)
_AFTER_NAME = re.compile(r"[^\w.-]")
_AFTER_KEY = re.compile(r"\W")
_MOST = 160


def pythonic(source: Incoming, out: Outgoing, tools: Tools) -> Steps[None]:
    """Read an answer. Without marks a list is one of calls only if it is the answer's beginning and the first of
    them is of one of ``tools``: an answer may be a list as well."""

    def read(mark: str) -> Steps[bool]:
        return (yield from _calls(source, out, None if mark else tools))

    source.record()
    if not (yield from read("")):
        out.text(source.recorded())
    source.forget()
    yield from marked_calls(source, out, _STARTS, read, closing=_ENDS)


def _calls(source: Incoming, out: Outgoing, names: Container[str] | None) -> Steps[bool]:
    yield from source.space()
    if not (yield from source.literal("[")):
        return False
    found = False
    while True:
        yield from source.space()
        if not (yield from _call(source, out, names)):
            if found:
                out.text(source.recorded())
            return found
        found = True
        source.record()
        yield from source.space()
        if not (yield from source.literal(",")):
            if (yield from source.literal("]")):
                source.forget()
            else:
                out.text(source.recorded())
            return True


def _call(source: Incoming, out: Outgoing, names: Container[str] | None) -> Steps[bool]:
    name = yield from source.run(_AFTER_NAME, _MOST)
    if not is_name(name) or (names is not None and name not in names):
        return False
    if not (yield from source.literal("(")):
        return False
    begin_call(source, out, name)
    if (yield from _arguments(source, out)):
        out.end()
    return True


def _arguments(source: Incoming, out: Outgoing) -> Steps[bool]:
    """Read ``key=value, …)``; False where it is wrong."""
    out.arguments("{")
    first = True
    while True:
        yield from source.space()
        if (yield from source.literal(")")):
            out.arguments("}")
            return True
        key = yield from source.run(_AFTER_KEY, _MOST)
        yield from source.space()
        if not key or not (yield from source.literal("=")):
            return False
        out.arguments(("" if first else ", ") + json.dumps(key, ensure_ascii=False) + ": ")
        first = False
        if not (yield from literal_value(source, out.arguments, PYTHON)):
            return False
        yield from source.space()
        if not (yield from source.literal(",")) and not (yield from source.ahead(")")):
            return False
