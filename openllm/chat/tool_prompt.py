"""Tell a model of tools in its system message, where its chat template does not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from openllm.chat.messages import Message
from openllm.chat.tool_calls.deepseek_v3 import written_call

_HEAD = "You can call these functions. Each line is one of them, with the JSON Schema of its parameters:"
_CALLS = '[{"name": "the function\'s name", "parameters": {"its parameters": "their values"}}]'
ANY_CALL = f"Answer with nothing but the calls that help with the request, as JSON: {_CALLS}"
CALL_OR_ANSWER = (
    f"Where calls help with the request, answer with nothing but them, as JSON: {_CALLS}. "
    "Where none is needed, give the answer as a JSON object."
)
HOW_TO_CALL: Mapping[str, str] = {
    # deepseek-ai/DeepSeek-V3.1, the model card: its template leaves this to whoever writes the system message.
    "deepseek_v3": "To call functions, end your answer with exactly this, the arguments being a JSON object:\n"
    + written_call("name_of_the_function", '{"name_of_a_parameter": "its value"}')
    + "\nFor several calls, repeat the part of one call. Without a need to call functions, just answer."
}
"""By the formats of calls whose models' templates say nothing of tools: how to call."""


def one_call(name: str) -> str:
    """How to answer with the arguments of one function."""
    return f"Answer with nothing but the parameters for a call of {name}, as a JSON object."


def tell_of_tools(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], how: str) -> list[Message]:
    """The messages, with ``tools`` and ``how`` to call them at the end of the system message."""
    lines = [json.dumps(tool["function"], ensure_ascii=False) for tool in tools]
    text = "\n".join([_HEAD, *lines, how])
    first, rest = messages[0], messages[1:]
    if first["role"] not in ("system", "developer"):
        return [{"role": "system", "content": text}, *messages]
    content = first["content"]
    if isinstance(content, list):
        return [{**first, "content": [*content, {"type": "text", "text": f"\n\n{text}"}]}, *rest]
    return [{**first, "content": f"{content}\n\n{text}"}, *rest]
