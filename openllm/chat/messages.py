"""Turn OpenAI's messages into what chat templates expect. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from openllm.chat.template_traits import TemplateTraits
from openllm.errors import RequestError, UnsupportedParameter, quoted

ROLES = ("system", "developer", "user", "assistant", "tool")
PART_TYPES = {"text": "text", "refusal": "refusal"}
"""Parts that are text, by type, and the key that holds it."""
KEYS = frozenset(
    ("role", "content", "name", "tool_calls", "tool_call_id", "refusal", "reasoning_content", "reasoning")
)
Message = dict[str, object]


def template_messages(
    messages: Sequence[Mapping[str, Any]],
    traits: TemplateTraits = TemplateTraits(),  # noqa: B008 - frozen
) -> list[Message]:
    """Messages as a chat template of these traits takes them; the input is not changed.

    Text parts become one text (joined by newlines) unless the template walks through parts; the role developer
    becomes system, and content None becomes "", where the template does not ask for them; arguments of tool
    calls are parsed, as templates write JSON themselves.

    Raises ``RequestError`` naming ``messages[i]`` and the field, and ``UnsupportedParameter`` for images, audio
    and files.
    """
    if not messages:
        raise RequestError("messages is empty.", hint="Send at least one message.", param="messages")
    return [_message(message, f"messages[{index}]", traits) for index, message in enumerate(messages)]


def _message(message: Mapping[str, Any], where: str, traits: TemplateTraits) -> Message:
    if not isinstance(message, Mapping):
        raise _wrong(where, "must be an object")
    role = message.get("role")
    if role not in ROLES:
        raise _wrong(f"{where}.role", f"is {quoted(role)}", f"Use one of {', '.join(ROLES)}.")
    for key, value in message.items():
        if key not in KEYS and value not in (None, [], {}):
            raise UnsupportedParameter(
                f"{where}.{key} is not supported.", hint="Leave it out.", param=f"{where}.{key}"
            )
    result: Message = {"role": "system" if role == "developer" and not traits.developer else role}
    result["content"] = _content(message, role, where, traits)
    for key in ("name", "tool_call_id", "reasoning_content", "reasoning"):
        if message.get(key) is not None:
            result[key] = _text(message[key], f"{where}.{key}")
    if message.get("tool_calls"):
        if role != "assistant":
            raise _wrong(f"{where}.tool_calls", "belongs to the role assistant")
        result["tool_calls"] = _tool_calls(message["tool_calls"], f"{where}.tool_calls")
    return result


def _content(message: Mapping[str, Any], role: str, where: str, traits: TemplateTraits) -> object:
    content = message.get("content")
    if content is None:
        if role != "assistant":
            raise _wrong(f"{where}.content", "is missing", "Give a text, or a list of text parts.")
        content = message.get("refusal")
    if content is None:
        return None if traits.none else ""
    where = f"{where}.content"
    if isinstance(content, str):
        return content if traits.text else [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise _wrong(where, "must be a text or a list of parts")
    if traits.images and role == "user" and any(map(_is_image, content)):
        # The image itself goes to the engine; the template only writes the mark of its place.
        return [
            {"type": "image"}
            if _is_image(part)
            else {"type": "text", "text": _part(part, f"{where}[{index}]")}
            for index, part in enumerate(content)
        ]
    texts = [_part(part, f"{where}[{index}]") for index, part in enumerate(content)]
    if traits.parts and (len(texts) > 1 or not traits.text):
        return [{"type": "text", "text": text} for text in texts]
    return "\n".join(texts)


def _is_image(part: object) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "image_url"


def _part(part: object, where: str) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
        raise _wrong(where, "must be an object with a type")
    key = PART_TYPES.get(part["type"])
    if key is None:
        raise UnsupportedParameter(
            f"{where} is of the type {quoted(part['type'])}; this model takes text only.",
            hint='Send parts of the type "text".',
            param=where,
        )
    return _text(part.get(key), f"{where}.{key}")


def _tool_calls(calls: object, where: str) -> list[Message]:
    if not isinstance(calls, list):
        raise _wrong(where, "must be a list")
    return [_tool_call(call, f"{where}[{index}]") for index, call in enumerate(calls)]


def _tool_call(call: object, where: str) -> Message:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(call, Mapping) or not isinstance(function, Mapping):
        raise _wrong(where, "must be an object with a function")
    result: Message = {
        "type": "function",
        "function": {
            "name": _text(function.get("name"), f"{where}.function.name"),
            "arguments": _arguments(function.get("arguments"), f"{where}.function.arguments"),
        },
    }
    return {"id": _text(call["id"], f"{where}.id"), **result} if call.get("id") is not None else result


def _arguments(arguments: object, where: str) -> object:
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            raise _wrong(where, "is not JSON") from None
    if not isinstance(arguments, Mapping):
        raise _wrong(where, "must be a JSON object")
    return arguments


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise _wrong(where, "must be a text")
    return value


def _wrong(where: str, what: str, hint: str = "Correct the message.") -> RequestError:
    return RequestError(f"{where} {what}.", hint=hint, param=where)
