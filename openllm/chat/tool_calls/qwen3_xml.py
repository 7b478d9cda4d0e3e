"""``<tool_call><function=name><parameter=key>value</parameter></function></tool_call>``: Qwen3-Coder, Qwen3.5.

Source: QwenLM/Qwen3-Coder, the chat template. A value stands on lines of its own, strings without quotes, so the
tool's schema decides what a value is.
"""

from __future__ import annotations

from openllm.chat.parsing.incoming import Incoming, Steps
from openllm.chat.parsing.outgoing import Outgoing
from openllm.chat.tool_calls.argument_writer import ArgumentWriter
from openllm.chat.tool_calls.json_call import begin_call, is_name
from openllm.chat.tool_calls.marked import marked_calls
from openllm.chat.tool_calls.schemas import Tools

MARKS = ("<tool_call>", "</tool_call>")
_FUNCTION = "<function="
_END = "</function>"
_PARAMETER = "<parameter="
# Models leave out closing tags, of which the next opening one on a line of its own then stands in the place.
_VALUE_ENDS = ("\n</parameter>", "</parameter>", "\n<parameter=", "\n</function>", "</function>")
_MOST = 160


def qwen3_xml(source: Incoming, out: Outgoing, tools: Tools) -> Steps[None]:
    """Read an answer."""

    def read(mark: str) -> Steps[bool]:
        if mark != _FUNCTION:
            yield from source.space()
            if not (yield from source.literal(_FUNCTION)):
                return False
        name, end = yield from source.before((">",), _MOST)
        name = name.strip()
        if not end or not is_name(name):
            return False
        begin_call(source, out, name)
        writer = ArgumentWriter(out, tools.get(name, {}))
        yield from source.space()
        mark = yield from source.literal(_PARAMETER, _END)
        while mark == _PARAMETER:
            mark = yield from _parameter(source, writer)
        if mark == _END:
            writer.close()
        yield from source.space()
        return True

    return marked_calls(source, out, ("<tool_call>", _FUNCTION), read, closing=("</tool_call>",))


def _parameter(source: Incoming, writer: ArgumentWriter) -> Steps[str]:
    """Read a key and its value and the mark behind them, which is given."""
    key, mark = yield from source.before((">",), _MOST)
    if not mark:
        return ""
    key = key.strip()
    writer.key(key)
    yield from source.literal("\n")
    mark = (yield from writer.value(source, key, _VALUE_ENDS)).strip()
    if mark != "</parameter>":
        return mark
    yield from source.space()
    return (yield from source.literal(_PARAMETER, _END))
