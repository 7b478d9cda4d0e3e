"""``<|tool_call|>[{"name": …, "arguments": {…}}, …]<|/tool_call|>`` or ``functools[…]``: Phi-4-mini.

Source: microsoft/Phi-4-mini-instruct, the model card and its chat template.
"""

from __future__ import annotations

from openllm.chat.parsing.incoming import Incoming, Steps
from openllm.chat.parsing.outgoing import Outgoing
from openllm.chat.tool_calls.json_call import json_calls
from openllm.chat.tool_calls.marked import marked_calls
from openllm.chat.tool_calls.schemas import Tools

MARKS = ("<|tool_call|>", "<|/tool_call|>")
_STARTS = ("<|tool_call|>", "functools")
_CLOSING = ("<|/tool_call|>",)


def phi4(source: Incoming, out: Outgoing, tools: Tools) -> Steps[None]:
    """Read an answer."""

    def read(mark: str) -> Steps[bool]:
        yield from source.space()
        return (yield from json_calls(source, out, _CLOSING))

    return marked_calls(source, out, _STARTS, read, closing=_CLOSING)
