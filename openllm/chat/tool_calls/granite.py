"""``<|tool_call|>[{"name": …, "arguments": {…}}, …]``: Granite 3.

Source: ibm-granite/granite-3.1-language-models, the models' chat templates.
"""

from __future__ import annotations

from openllm.chat.parsing.incoming import Incoming, Steps
from openllm.chat.parsing.outgoing import Outgoing
from openllm.chat.tool_calls.json_call import json_calls
from openllm.chat.tool_calls.marked import marked_calls
from openllm.chat.tool_calls.schemas import Tools

MARKS = ("<|tool_call|>",)
_STARTS = (*MARKS, "<tool_call>")
_CLOSING = ("</tool_call>",)


def granite(source: Incoming, out: Outgoing, tools: Tools) -> Steps[None]:
    """Read an answer."""

    def read(mark: str) -> Steps[bool]:
        yield from source.space()
        return (yield from json_calls(source, out))

    return marked_calls(source, out, _STARTS, read, closing=_CLOSING)
