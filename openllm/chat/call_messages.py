"""Fit calls, their results and reasoning in a conversation to what its template takes. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from openllm.chat.call_traits import CallIds, CallTraits
from openllm.chat.messages import Message
from openllm.errors import RequestError, quoted

_SHORT = re.compile(r"[a-zA-Z0-9]{9}")
_Call = dict[str, Any]


def fit_calls(messages: Sequence[Message], traits: CallTraits) -> list[Message]:
    """Messages of ``template_messages`` as a template of these traits takes them; they are not changed.

    A result without an id answers the next call of the last message with calls. Ids get the form that the template
    wants; several calls become a message each, followed by its result, where it writes one; reasoning goes under
    the key where it looks for it, and is left out if it looks nowhere, as such models are not shown it again.

    Raises ``RequestError`` naming ``messages[i]`` and the field for a result that answers no call and for an id
    that stands twice in a message.
    """
    fitted = [_with_reasoning(message, traits) for message in messages]
    fitted = _with_ids(fitted, traits.ids)
    return list(_split(fitted)) if traits.single else fitted


def _with_ids(messages: Sequence[Message], ids: CallIds) -> list[Message]:
    fit = _ID_FORMS[ids]
    names: dict[str, str] = {}  # the client's ids -> the template's
    waiting: list[str] = []
    count = 0
    result: list[Message] = []
    for at, message in enumerate(messages):
        if message.get("tool_calls"):
            calls = []
            waiting = []
            for index, call in enumerate(_calls(message)):
                identity = call.get("id") or f"call_{at}_{index}"
                if identity in waiting:
                    raise _wrong(
                        f"messages[{at}].tool_calls[{index}].id", f"is {quoted(identity)} for a second time"
                    )
                waiting.append(identity)
                names[identity] = fit(identity, call["function"]["name"], count)
                calls.append({**call, "id": names[identity]})
                count += 1
            message = {**message, "tool_calls": calls}
        elif message["role"] == "tool":
            identity = _answered(message, f"messages[{at}].tool_call_id", names, waiting)
            message = {**message, "tool_call_id": names[identity]}
        result.append(message)
    return result


def _answered(message: Message, where: str, known: dict[str, str], waiting: list[str]) -> str:
    """The id of the call that a result answers, which waits no more."""
    identity = message.get("tool_call_id")
    if identity is None:
        if not waiting:
            raise _wrong(where, "is missing, and there is no call that waits for a result")
        return waiting.pop(0)
    assert isinstance(identity, str)
    if identity not in known:
        raise _wrong(where, f"is {quoted(identity)}, which is the id of no call before it")
    if identity in waiting:
        waiting.remove(identity)
    return identity


def _as_it_is(identity: str, name: str, number: int) -> str:
    return identity


def _short(identity: str, name: str, number: int) -> str:
    if _SHORT.fullmatch(identity):
        return identity
    return hashlib.sha256(identity.encode()).hexdigest()[:9]


def _numbered(identity: str, name: str, number: int) -> str:
    return f"functions.{name}:{number}"


_ID_FORMS: dict[CallIds, Callable[[str, str, int], str]] = {
    "any": _as_it_is,
    "short": _short,
    "numbered": _numbered,
}


def _split(messages: Sequence[Message]) -> Iterator[Message]:
    """One call a message, followed by its result."""
    at = 0
    while at < len(messages):
        message = messages[at]
        at += 1
        if len(_calls(message)) < 2:
            yield message
            continue
        results = []
        while at < len(messages) and messages[at]["role"] == "tool":
            results.append(messages[at])
            at += 1
        for index, call in enumerate(_calls(message)):
            yield {**(message if not index else _CONTINUED), "tool_calls": [call]}
            yield from (result for result in results if result["tool_call_id"] == call["id"])
        own = {call["id"] for call in _calls(message)}
        yield from (result for result in results if result["tool_call_id"] not in own)


_CONTINUED: Message = {"role": "assistant", "content": ""}


def _with_reasoning(message: Message, traits: CallTraits) -> Message:
    if "reasoning_content" not in message and "reasoning" not in message:
        return message
    rest = {key: value for key, value in message.items() if key not in ("reasoning_content", "reasoning")}
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    if not reasoning or not traits.reasoning:
        return rest
    if traits.reasoning == "part":
        content = rest["content"]
        texts = (
            content if isinstance(content, list) else [{"type": "text", "text": content}] if content else []
        )
        return {**rest, "content": [{"type": "thinking", "thinking": reasoning}, *texts]}
    if traits.reasoning == "thinking" and rest.get("content") and rest.get("tool_calls"):
        return rest  # gpt-oss's template takes one of the two beside a call
    return {**rest, traits.reasoning: reasoning}


def _calls(message: Message) -> list[_Call]:
    return cast("list[_Call]", message.get("tool_calls") or [])


def _wrong(where: str, what: str) -> RequestError:
    hint = "Send the assistant's message with the call before its result, and the call's id with both."
    return RequestError(f"{where} {what}.", hint=hint, param=where)
