"""``<tool_call>{"name": …, "arguments": {…}}</tool_call>``: Hermes, Qwen 2.5 and 3, Granite 4 and many others.

Source: NousResearch/Hermes-Function-Calling, README. Some put a list into ``<tool_calls>`` (Apriel).
"""

from __future__ import annotations

from openllm.chat.parsing.incoming import Incoming, Steps
from openllm.chat.parsing.outgoing import Outgoing
from openllm.chat.tool_calls.json_call import json_calls, surplus
from openllm.chat.tool_calls.marked import marked_calls
from openllm.chat.tool_calls.schemas import Tools

_STARTS = ("<tool_call>", "<tool_calls>")
_ENDS = ("</tool_call>", "</tool_calls>")
MARKS = (*_STARTS, *_ENDS)


def hermes(source: Incoming, out: Outgoing, tools: Tools) -> Steps[None]:
    """Read an answer."""

    def read(mark: str) -> Steps[bool]:
        yield from source.space()
        if not (yield from json_calls(source, out, _ENDS)):
            return False
        yield from surplus(source)
        return True

    return marked_calls(source, out, _STARTS, read, closing=_ENDS)
