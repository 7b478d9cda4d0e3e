"""``{"name": …, "parameters": {…}}`` as the whole answer: Llama 3.1 to 3.3.

Source: Meta's documentation of Llama 3.1, "JSON based tool calling". Behind ``<|python_tag|>`` a call may stand
anywhere; several are parted by semicolons.
"""

from __future__ import annotations

from openllm.chat.parsing.incoming import Incoming, Steps
from openllm.chat.parsing.outgoing import Outgoing
from openllm.chat.tool_calls.json_call import json_calls
from openllm.chat.tool_calls.marked import marked_calls
from openllm.chat.tool_calls.schemas import Tools

MARKS = ("<|python_tag|>",)


def llama3_json(source: Incoming, out: Outgoing, tools: Tools) -> Steps[None]:
    """Read an answer. An object is a call only if it is of one of ``tools``: an answer may be JSON as well."""

    def read(mark: str) -> Steps[bool]:
        found = False
        while True:
            yield from source.space()
            if (yield from source.peek()) not in ("{", "[") or not (
                yield from json_calls(source, out, names=tools)
            ):
                if found:
                    out.text(source.recorded())
                return found
            found = True
            source.record()
            yield from source.space()
            if (yield from source.literal(";")):
                source.record()

    source.record()
    if not (yield from read("")):
        out.text(source.recorded())
    source.forget()
    yield from marked_calls(source, out, MARKS, read)
