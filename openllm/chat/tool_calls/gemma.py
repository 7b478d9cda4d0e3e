"""``<|tool_call>call:name{key:<|"|>text<|"|>,other:1}<tool_call|>``: Gemma 4; FunctionGemma has other marks.

Source: google/gemma-4-31B-it and google/functiongemma-270m-it, the chat templates.
"""

from __future__ import annotations

import re

from openllm.chat.parsing.incoming import Incoming, Steps
from openllm.chat.parsing.outgoing import Outgoing
from openllm.chat.tool_calls.json_call import begin_call, is_name
from openllm.chat.tool_calls.literals import Notation, literal_value
from openllm.chat.tool_calls.marked import marked_calls
from openllm.chat.tool_calls.schemas import Tools

_STARTS = ("<|tool_call>", "<start_function_call>")
_ENDS = ("<tool_call|>", "<end_function_call>")
_QUOTES = ('<|"|>', "<escape>")
# Gemma's turn goes on with the tool's answer, which is the client's to give.
_HANDOVER = ("<|tool_response>", "<start_function_response>")
MARKS = (*_STARTS, *_ENDS, *_QUOTES, *_HANDOVER)
_NOTATION = Notation(quotes=_QUOTES, escapes=False, bare_keys=True)
_AFTER_NAME = re.compile(r"[{\s<]")
_MOST = 160


def gemma(source: Incoming, out: Outgoing, tools: Tools) -> Steps[None]:
    """Read an answer."""

    def read(mark: str) -> Steps[bool]:
        if not (yield from source.literal("call:")):
            return False
        name = yield from source.run(_AFTER_NAME, _MOST)
        if not is_name(name) or (yield from source.peek()) != "{":
            return False
        begin_call(source, out, name)
        if (yield from literal_value(source, out.arguments, _NOTATION)):
            out.end()
        return True

    return marked_calls(source, out, _STARTS, read, closing=_ENDS, final=_HANDOVER)
