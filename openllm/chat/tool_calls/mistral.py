"""``[TOOL_CALLS]`` and then a JSON list of calls, or ``name[ARGS]{…}``, maybe with ``[CALL_ID]…`` between.

Source: mistralai/mistral-common, the instruct tokenizers of versions 3 to 13.
"""

from __future__ import annotations

import re

from openllm.chat.parsing.incoming import Incoming, Steps
from openllm.chat.parsing.outgoing import Outgoing
from openllm.chat.tool_calls.json_call import begin_call, is_name, json_calls
from openllm.chat.tool_calls.json_text import json_value
from openllm.chat.tool_calls.marked import marked_calls
from openllm.chat.tool_calls.schemas import Tools

MARKS = ("[TOOL_CALLS]", "[CALL_ID]", "[ARGS]")
_START = "[TOOL_CALLS]"
_AFTER_NAME = re.compile(r"[\[{\s]")
_MOST = 128


def mistral(source: Incoming, out: Outgoing, tools: Tools) -> Steps[None]:
    """Read an answer."""

    def read(mark: str) -> Steps[bool]:
        yield from source.space()
        if (yield from source.peek()) in ("[", "{"):
            return (yield from json_calls(source, out, (_START,)))
        name = yield from source.run(_AFTER_NAME, _MOST)
        if (yield from source.literal("[CALL_ID]")):
            yield from source.run(_AFTER_NAME, _MOST)
        yield from source.literal("[ARGS]")
        yield from source.space()
        if not is_name(name) or (yield from source.peek()) != "{":
            return False
        begin_call(source, out, name)
        if (yield from json_value(source, out.arguments, (_START,))):
            out.end()
        return True

    return marked_calls(source, out, (_START,), read)
