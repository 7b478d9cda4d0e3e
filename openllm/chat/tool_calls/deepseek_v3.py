"""Calls in a section, each a name, a separator and JSON between marks with full-width bars: DeepSeek V3, V3.1, R1.

V3 and R1 write ``function`` before the separator, and the name and fenced JSON behind it.
Source: deepseek-ai/DeepSeek-V3.1, the model card; deepseek-ai/DeepSeek-V3, the chat template.
"""

from __future__ import annotations

import re

from openllm.chat.parsing.incoming import Incoming, Steps
from openllm.chat.parsing.outgoing import Outgoing
from openllm.chat.tool_calls.json_call import begin_call, is_name, surplus
from openllm.chat.tool_calls.json_text import json_value
from openllm.chat.tool_calls.marked import marked_calls
from openllm.chat.tool_calls.schemas import Tools

_START = "<\uff5ctool\u2581call\u2581begin\uff5c>"
_SEPARATOR = "<\uff5ctool\u2581sep\uff5c>"
_END = "<\uff5ctool\u2581call\u2581end\uff5c>"
_OPENING = "<\uff5ctool\u2581calls\u2581begin\uff5c>"
_CLOSING = "<\uff5ctool\u2581calls\u2581end\uff5c>"
MARKS = (_START, _SEPARATOR, _END, _OPENING, _CLOSING)
_NEW_LINE = re.compile(r"\n")
_MOST = 160


def deepseek_v3(source: Incoming, out: Outgoing, tools: Tools) -> Steps[None]:
    """Read an answer."""

    def read(mark: str) -> Steps[bool]:
        name, separator = yield from source.before((_SEPARATOR, _END), _MOST)
        if separator != _SEPARATOR:
            return False
        if name.strip() == "function":
            name = yield from source.run(_NEW_LINE, _MOST)
            yield from source.space()
            yield from source.literal("```json")
        name = name.strip()
        yield from source.space()
        if not is_name(name) or (yield from source.peek()) != "{":
            return False
        begin_call(source, out, name)
        if (yield from json_value(source, out.arguments, (_END, _CLOSING))):
            out.end()
        yield from surplus(source)
        yield from source.literal("```")
        yield from source.space()
        return True

    return marked_calls(source, out, (_START,), read, opening=(_OPENING,), closing=(_END, _CLOSING))


def written_call(name: str, arguments: str) -> str:
    """A section with one call, as V3.1 writes it."""
    return f"{_OPENING}{_START}{name}{_SEPARATOR}{arguments}{_END}{_CLOSING}"
