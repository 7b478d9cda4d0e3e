"""Content blocks of Messages, and the chat messages that they mean. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from openllm.api.dialect import FieldNames
from openllm.errors import RequestError, UnsupportedParameter, quoted

Block = Mapping[str, Any]
Message = dict[str, Any]
Turn = tuple[str, str | list[dict[str, Any]]]
"""A role, and a text or blocks."""

_KEYS = {
    "text": {"type", "text", "cache_control"},
    "image": {"type", "source", "cache_control"},
    "tool_use": {"type", "id", "name", "input", "cache_control"},
    "tool_result": {"type", "tool_use_id", "content", "is_error", "cache_control"},
    "thinking": {"type", "thinking", "signature"},
}
_ALLOWED = {
    "system": ("text",),
    "user": ("text", "image", "tool_result"),
    "assistant": ("text", "tool_use", "thinking"),
    "result": ("text", "image"),
}
# That calls came from the model, and that nobody else runs them, is all that there is here.
_HARMLESS = {"citations": (None, []), "caller": (None, {"type": "direct"}), "toolset_name": (None,)}


def chat_messages(system: Sequence[str], turns: Sequence[Turn], names: FieldNames) -> list[Message]:
    """The conversation as chat has it; ``names`` learns which message came from where.

    Turns of one role that follow each other are one turn. Results of tools become messages of their own, before
    what else the user's turn says. Raises ``RequestError`` naming ``messages[i]`` and the field.
    """
    messages: list[Message] = []
    if system:
        names.add("messages[0]", "system")
        names.add("messages[0].content", "system")
        messages.append({"role": "system", "content": _joined([_text_part(text) for text in system])})
    for index, (role, content) in enumerate(turns):
        where = f"messages[{index}]"
        for message in _said(role, list(_blocks(content, role, where))):
            if not _merge(messages, message):
                messages.append(message)
            names.add(f"messages[{len(messages) - 1}]", where)
    for message in messages:
        if isinstance(message["content"], list):
            message["content"] = _joined(message["content"])
    return messages


def _blocks(content: str | list[dict[str, Any]], role: str, where: str) -> Iterator[tuple[Block, str]]:
    """The blocks of a content, checked for their type and keys, and where they stand."""
    if isinstance(content, str):
        yield {"type": "text", "text": content}, f"{where}.content"
        return
    for index, block in enumerate(content):
        here = f"{where}.content[{index}]"
        kind = block.get("type") if isinstance(block, Mapping) else None
        if not isinstance(kind, str) or kind not in _ALLOWED[role]:
            raise UnsupportedParameter(
                f"{here} is of the type {quoted(kind)}, which is not supported here.",
                hint=f"Use one of {', '.join(_ALLOWED[role])}.",
                param=f"{here}.type",
            )
        for key, value in block.items():
            if key not in _KEYS[kind] and value not in _HARMLESS.get(key, (None,)):
                raise UnsupportedParameter(
                    f"{here}.{key} is not supported.", hint="Leave it out.", param=f"{here}.{key}"
                )
        yield block, here


def _said(role: str, blocks: list[tuple[Block, str]]) -> list[Message]:
    if role == "assistant":
        return [_assistant(blocks)]
    results = [_result(block, here) for block, here in blocks if block["type"] == "tool_result"]
    parts = [_part(block, here) for block, here in blocks if block["type"] != "tool_result"]
    return [*results, {"role": role, "content": parts}] if parts or not results else results


def _assistant(blocks: list[tuple[Block, str]]) -> Message:
    message: Message = {"role": "assistant", "content": []}
    for block, here in blocks:
        match block["type"]:
            case "text":
                message["content"].append(_part(block, here))
            case "thinking":
                thought = message.get("reasoning_content", "") + _text(block, "thinking", here)
                if thought:
                    message["reasoning_content"] = thought
            case "tool_use":
                message.setdefault("tool_calls", []).append(_call(block, here))
    return message


def _call(block: Block, where: str) -> dict[str, Any]:
    given = block.get("input")
    if not isinstance(given, Mapping):
        raise _wrong(f"{where}.input", "must be an object")
    arguments = msgspec.json.encode(given).decode()
    function = {"name": _text(block, "name", where), "arguments": arguments}
    return {"id": _text(block, "id", where), "type": "function", "function": function}


def _result(block: Block, where: str) -> Message:
    content = block.get("content")
    if content is not None and not isinstance(content, (str, list)):
        raise _wrong(f"{where}.content", "must be a text or a list of blocks")
    parts = [_part(inner, here) for inner, here in _blocks(content or "", "result", where)]
    if block.get("is_error"):
        # Chat has no field for it, and the model should know.
        parts.insert(0, _text_part("Error:"))
    return {"role": "tool", "tool_call_id": _text(block, "tool_use_id", where), "content": parts}


def _part(block: Block, where: str) -> dict[str, Any]:
    if block["type"] == "text":
        return _text_part(_text(block, "text", where))
    return {"type": "image_url", "image_url": {"url": _image_url(block.get("source"), f"{where}.source")}}


def _image_url(source: object, where: str) -> str:
    kind = source.get("type") if isinstance(source, Mapping) else None
    if kind == "url":
        return _text(source, "url", where)
    if kind == "base64":
        return f"data:{_text(source, 'media_type', where)};base64,{_text(source, 'data', where)}"
    raise UnsupportedParameter(
        f"{where}.type is {quoted(kind)}, which is not supported.",
        hint="Use one of base64, url.",
        param=f"{where}.type",
    )


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _text(value: object, key: str, where: str) -> str:
    text = value.get(key) if isinstance(value, Mapping) else None
    if not isinstance(text, str):
        raise _wrong(f"{where}.{key}", "must be a text")
    return text


def _wrong(where: str, what: str) -> RequestError:
    return RequestError(f"{where} {what}.", hint="Correct the message.", param=where)


def _merge(messages: list[Message], message: Message) -> bool:
    """Add the message to the last one, if both are of one turn of the user or the assistant."""
    role = message["role"]
    if not messages or messages[-1]["role"] != role or role not in ("user", "assistant"):
        return False
    last = messages[-1]
    last["content"] += message["content"]
    for key in ("tool_calls", "reasoning_content"):
        if key in message:
            last[key] = last[key] + message[key] if key in last else message[key]
    return True


def _joined(parts: list[dict[str, Any]]) -> object:
    """One text as a text, which every template takes; nothing as None, as of a message that only has calls."""
    if len(parts) == 1 and parts[0]["type"] == "text":
        return parts[0]["text"]
    return parts or None
