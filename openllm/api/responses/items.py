"""Items: what a response's input and output consist of, and the chat messages that they mean. Pure.

Input is first brought to the form in which it is stored and listed: every item with its type, an id and, for
messages, a list of parts. Only that form is translated to messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from openllm.api.dialect import FieldNames
from openllm.errors import RequestError, UnsupportedParameter, quoted

Item = dict[str, Any]
Message = dict[str, Any]

_ROLES = ("user", "system", "developer", "assistant")
_PREFIXES = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}
_KEYS = {
    "message": {"type", "id", "status", "role", "content", "phase"},
    "function_call": {"type", "id", "status", "call_id", "name", "arguments"},
    "function_call_output": {"type", "id", "status", "call_id", "output"},
    "reasoning": {"type", "id", "status", "summary", "content"},
}
_TEXT_PARTS = {"input_text": "text", "output_text": "text", "refusal": "refusal"}


def input_items(value: str | Sequence[Mapping[str, Any]], token: str) -> list[Item]:
    """The input in the form in which it is stored; items without an id get one that is made of ``token``.

    Raises ``RequestError`` naming ``input[i]`` and the field.
    """
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    return [_item(item, f"input[{index}]", f"{token}i{index}") for index, item in enumerate(value)]


def _item(item: Mapping[str, Any], where: str, token: str) -> Item:
    kind = item.get("type") or "message"
    if kind == "item_reference":
        raise UnsupportedParameter(
            f"{where} refers to an item by its id, which is not supported.",
            hint="Send the item itself, or previous_response_id.",
            param=where,
        )
    if not isinstance(kind, str) or kind not in _KEYS:
        raise UnsupportedParameter(
            f"{where}.type is {quoted(kind)}, which is not supported.",
            hint=f"Use one of {', '.join(_KEYS)}.",
            param=f"{where}.type",
        )
    for key, value in item.items():
        if key not in _KEYS[kind] and value is not None:
            raise UnsupportedParameter(
                f"{where}.{key} is not supported.", hint="Leave it out.", param=f"{where}.{key}"
            )
    given = _text(item, "id", where) if item.get("id") is not None else f"{_PREFIXES[kind]}_{token}"
    return {"id": given, "type": kind, "status": "completed", **_CONTENTS[kind](item, where)}


def _message_item(item: Mapping[str, Any], where: str) -> Item:
    role = item.get("role")
    if role not in _ROLES:
        raise _wrong(f"{where}.role", f"is {quoted(role)}", f"Use one of {', '.join(_ROLES)}.")
    kind = "output_text" if role == "assistant" else "input_text"
    return {"role": role, "content": _parts(item.get("content"), f"{where}.content", kind)}


def _call_item(item: Mapping[str, Any], where: str) -> Item:
    return {key: _text(item, key, where) for key in ("call_id", "name", "arguments")}


def _output_item(item: Mapping[str, Any], where: str) -> Item:
    output = item.get("output")
    if not isinstance(output, str):
        output = _parts(output, f"{where}.output", "input_text")
    return {"call_id": _text(item, "call_id", where), "output": output}


def _reasoning_item(item: Mapping[str, Any], where: str) -> Item:
    texts = []
    for key in ("content", "summary"):
        if not isinstance(item.get(key) or [], list):
            raise _wrong(f"{where}.{key}", "must be a list of parts")
    for index, part in enumerate(item.get("content") or ()):
        here = f"{where}.content[{index}]"
        if not isinstance(part, Mapping) or part.get("type") != "reasoning_text":
            raise _wrong(here, "must be a part of the type reasoning_text")
        texts.append({"type": "reasoning_text", "text": _text(part, "text", here)})
    # A summary is listed again, but it is not what the model thought.
    return {"summary": item.get("summary") or [], "content": texts}


_CONTENTS = {
    "message": _message_item,
    "function_call": _call_item,
    "function_call_output": _output_item,
    "reasoning": _reasoning_item,
}


def _parts(content: object, where: str, kind: str) -> list[Item]:
    if isinstance(content, str):
        return [_text_part(kind, content)]
    if not isinstance(content, list):
        raise _wrong(where, "must be a text or a list of parts")
    return [_part(part, f"{where}[{index}]") for index, part in enumerate(content)]


def _part(part: object, where: str) -> Item:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(part, Mapping) or not isinstance(kind, str):
        raise _wrong(where, "must be an object with a type")
    if kind in _TEXT_PARTS:
        return _text_part(kind, _text(part, _TEXT_PARTS[kind], where))
    if kind == "input_image" and part.get("file_id") is None:
        return {
            "type": kind,
            "image_url": _text(part, "image_url", where),
            "detail": part.get("detail") or "auto",
        }
    raise UnsupportedParameter(
        f"{where} is of the type {quoted(kind)}, which is not supported.",
        hint="Send parts of the type input_text, or input_image with an image_url.",
        param=where,
    )


def _text_part(kind: str, text: str) -> Item:
    if kind == "output_text":
        return {"type": kind, "text": text, "annotations": [], "logprobs": []}
    return {"type": kind, _TEXT_PARTS[kind]: text}


def _text(value: Mapping[str, Any], key: str, where: str) -> str:
    text = value.get(key)
    if not isinstance(text, str):
        raise _wrong(f"{where}.{key}", "must be a text")
    return text


def _wrong(where: str, what: str, hint: str = "Correct the item.") -> RequestError:
    return RequestError(f"{where} {what}.", hint=hint, param=where)


def chat_messages(
    instructions: str | None, history: Sequence[Item], own: Sequence[Item], names: FieldNames, *, text: bool
) -> list[Message]:
    """The conversation as chat has it; ``names`` learns which message came from where.

    Reasoning, a message and calls that follow each other are one message of the assistant, as the model said them
    in one turn. ``text``: the request's own input is a bare text.
    """
    messages: list[Message] = []
    if instructions is not None:
        names.add("messages[0]", "instructions")
        names.add("messages[0].content", "instructions")
        messages.append({"role": "developer", "content": instructions})
    for item, where in _placed(history, own, text):
        message = _joined(messages[-1] if messages else None, item)
        if message is None:
            messages.append(_said(item))
        _name(names, f"messages[{len(messages) - 1}]", item, messages[-1], where)
    return messages


def _placed(history: Sequence[Item], own: Sequence[Item], text: bool) -> Iterator[tuple[Item, str]]:
    for item in history:
        yield item, "previous_response_id"
    for index, item in enumerate(own):
        yield item, "input" if text else f"input[{index}]"


def _name(names: FieldNames, chat: str, item: Item, message: Message, where: str) -> None:
    """What in the message (its last part, where it was joined) was made from the item at ``where``."""
    kind = item["type"]
    if kind == "function_call":
        call = f"{chat}.tool_calls[{len(message['tool_calls']) - 1}]"
        names.add(call, where)
        names.add(f"{call}.function", where)
        if len(message["tool_calls"]) == 1 and message["content"] is None:
            names.add(chat, where)
    elif kind == "reasoning":
        names.add(f"{chat}.reasoning_content", f"{where}.content")
        names.add(chat, where)
    else:
        names.add(chat, where)
        if where in ("input", "previous_response_id"):
            names.add(f"{chat}.content", where)
        elif kind == "function_call_output":
            names.add(f"{chat}.content", f"{where}.output")
            names.add(f"{chat}.tool_call_id", f"{where}.call_id")


def _joined(last: Message | None, item: Item) -> Message | None:
    """The assistant's last message with the item in it; None if the item begins a message of its own."""
    if last is None or last["role"] != "assistant":
        return None
    calls = last.get("tool_calls")
    if item["type"] == "function_call":
        last.setdefault("tool_calls", []).append(_call(item))
        return last
    if item["type"] == "message" and item["role"] == "assistant" and last["content"] is None and not calls:
        last["content"] = _content(item["content"])
        return last
    return None


def _said(item: Item) -> Message:
    match item["type"]:
        case "function_call":
            return {"role": "assistant", "content": None, "tool_calls": [_call(item)]}
        case "function_call_output":
            return {"role": "tool", "tool_call_id": item["call_id"], "content": _content(item["output"])}
        case "reasoning":
            text = "".join(part["text"] for part in item["content"])
            thought = {"reasoning_content": text} if text else {}
            return {"role": "assistant", "content": None, **thought}
        case _:
            return {"role": item["role"], "content": _content(item["content"])}


def _call(item: Item) -> dict[str, Any]:
    function = {"name": item["name"], "arguments": item["arguments"]}
    return {"id": item["call_id"], "type": "function", "function": function}


def _content(parts: str | list[Item]) -> object:
    if isinstance(parts, str):
        return parts
    chat = [_chat_part(part) for part in parts]
    if len(chat) == 1 and chat[0]["type"] == "text":
        return chat[0]["text"]
    return chat


def _chat_part(part: Item) -> dict[str, Any]:
    if part["type"] == "input_image":
        return {"type": "image_url", "image_url": {"url": part["image_url"], "detail": part["detail"]}}
    return {"type": "text", "text": part[_TEXT_PARTS[part["type"]]]}
