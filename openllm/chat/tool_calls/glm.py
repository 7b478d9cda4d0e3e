"""``<tool_call>name<arg_key>…</arg_key><arg_value>…</arg_value></tool_call>``: GLM 4.5 to 4.7.

Source: zai-org/GLM-4.5, the chat template. Strings stand without quotes, other values as JSON, so the tool's
schema decides what a value is.
"""

from __future__ import annotations

from openllm.chat.parsing.incoming import Incoming, Steps
from openllm.chat.parsing.outgoing import Outgoing
from openllm.chat.tool_calls.argument_writer import ArgumentWriter
from openllm.chat.tool_calls.json_call import begin_call, is_name
from openllm.chat.tool_calls.marked import marked_calls
from openllm.chat.tool_calls.schemas import Tools

_START = "<tool_call>"
_END = "</tool_call>"
_KEY = "<arg_key>"
_VALUE = "<arg_value>"
MARKS = (_START, _END, _KEY, "</arg_key>", _VALUE, "</arg_value>")
_MOST = 160


def glm(source: Incoming, out: Outgoing, tools: Tools) -> Steps[None]:
    """Read an answer."""

    def read(mark: str) -> Steps[bool]:
        name, mark = yield from source.before((_KEY, _END), _MOST)
        name = name.strip()
        if not mark or not is_name(name):
            return False
        begin_call(source, out, name)
        writer = ArgumentWriter(out, tools.get(name, {}))
        while mark == _KEY:
            mark = yield from _argument(source, writer)
        if mark == _END:
            writer.close()
        return True

    return marked_calls(source, out, (_START,), read, closing=(_END,))


def _argument(source: Incoming, writer: ArgumentWriter) -> Steps[str]:
    """Read a key and its value and the mark behind them, which is given."""
    key, mark = yield from source.before(("</arg_key>",), _MOST)
    yield from source.space()
    if not mark or not (yield from source.literal(_VALUE)):
        return ""
    key = key.strip()
    writer.key(key)
    mark = yield from writer.value(source, key, ("</arg_value>", _END))
    if mark == _END:
        return mark
    yield from source.space()
    return (yield from source.literal(_KEY, _END))
