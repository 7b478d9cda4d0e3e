"""``<|tool_call_begin|>functions.name:0<|tool_call_argument_begin|>{…}<|tool_call_end|>`` in a section: Kimi K2.

Source: moonshotai/Kimi-K2-Instruct, docs/tool_call_guidance.md.
"""

from __future__ import annotations

import re

from openllm.chat.parsing.incoming import Incoming, Steps
from openllm.chat.parsing.outgoing import Outgoing
from openllm.chat.tool_calls.json_call import begin_call, is_name, surplus
from openllm.chat.tool_calls.json_text import json_value
from openllm.chat.tool_calls.marked import marked_calls
from openllm.chat.tool_calls.schemas import Tools

_START = "<|tool_call_begin|>"
_ARGUMENTS = "<|tool_call_argument_begin|>"
_END = "<|tool_call_end|>"
_OPENING = "<|tool_calls_section_begin|>"
_CLOSING = "<|tool_calls_section_end|>"
MARKS = (_START, _ARGUMENTS, _END, _OPENING, _CLOSING)
_ID = re.compile(r"(?:functions\.)?(.+?)(?::\d+)?")
_MOST = 160


def kimi(source: Incoming, out: Outgoing, tools: Tools) -> Steps[None]:
    """Read an answer."""

    def read(mark: str) -> Steps[bool]:
        identity, separator = yield from source.before((_ARGUMENTS, _END), _MOST)
        found = _ID.fullmatch(identity.strip())
        yield from source.space()
        if separator != _ARGUMENTS or found is None or not is_name(found[1]):
            return False
        if (yield from source.peek()) != "{":
            return False
        begin_call(source, out, found[1])
        if (yield from json_value(source, out.arguments, (_END, _CLOSING))):
            out.end()
        yield from surplus(source)
        return True

    return marked_calls(source, out, (_START,), read, opening=(_OPENING,), closing=(_END, _CLOSING))
