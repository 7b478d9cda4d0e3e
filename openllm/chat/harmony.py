"""gpt-oss's format: messages to channels, for reasoning, calls and text alike.

``<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>commentary to=functions.name
<|constrain|>json<|message|>{…}<|call|>``, and the channel ``final`` for the user; ``commentary`` to nobody is for the
user too. Source: OpenAI's "harmony response format", openai/harmony, docs/format.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from openllm.chat.parsing.incoming import Incoming, Steps
from openllm.chat.parsing.outgoing import Outgoing
from openllm.chat.tool_calls.json_call import is_name
from openllm.chat.tool_calls.schemas import Tools

_START = "<|start|>"
_CHANNEL = "<|channel|>"
_MESSAGE = "<|message|>"
_ENDS = ("<|end|>", "<|call|>", "<|return|>")
_CONSTRAIN = "<|constrain|>"
MARKS = (_START, _CHANNEL, _MESSAGE, _CONSTRAIN, *_ENDS)
_HEADS = (_START, _CHANNEL, " to=")
_RECIPIENT = re.compile(r"\bto=([^\s<]+)")
_CHANNEL_NAME = re.compile(r"<\|channel\|>\s*(\w+)")
_FUNCTIONS = "functions."
_MOST_HEAD = 512


def harmony(source: Incoming, out: Outgoing, tools: Tools) -> Steps[None]:
    """Read an answer behind ``<|start|>assistant``. Text outside of messages is text for the user, and so are
    calls if there are no ``tools``."""
    wrote = False
    opening = yield from source.literal(*_HEADS)
    while opening or (yield from source.peek()):
        if not opening:
            piece, opening = yield from source.piece((_START, _CHANNEL))
            out.text(piece)
            continue
        source.record(opening)
        head, mark = yield from source.before((_MESSAGE, *_ENDS), _MOST_HEAD)
        head = opening + head
        opening = ""
        if mark != _MESSAGE:
            out.text(source.recorded())
        elif _RECIPIENT.search(head):
            opening = yield from _addressed(source, out, head, tools)
        elif _channel(head) == "analysis":
            source.forget()
            out.begin_thought()
            opening = yield from _body(source, out.thought)
            out.end_thought()
        else:
            source.forget()
            if wrote:
                out.text("\n\n")
            wrote = True
            opening = yield from _body(source, out.text)


def _addressed(source: Incoming, out: Outgoing, head: str, tools: Tools) -> Steps[str]:
    """A message to a tool. Those that came with the model, such as a browser, are not here: it is text then."""
    found = _RECIPIENT.search(head)
    recipient = found[1] if found else ""
    name = recipient.removeprefix(_FUNCTIONS)
    if not is_name(name) or not tools or (name == recipient and name not in tools):
        out.text(source.recorded())
        return (yield from _body(source, out.text))
    source.forget()
    out.begin(name)
    opening = yield from _body(source, out.arguments)
    out.end()
    return opening


def _channel(head: str) -> str:
    found = _CHANNEL_NAME.search(head)
    return found[1] if found else ""


def _body(source: Incoming, emit: Callable[[str], None]) -> Steps[str]:
    """Read a message's content and its end; gives the mark of a new message if that is there instead."""
    while True:
        piece, mark = yield from source.piece((*_ENDS, _START))
        if piece:
            emit(piece)
        if mark or not piece:
            return mark if mark == _START else ""


def forced_opening(name: str | None) -> str:
    """The head of a message, behind ``<|start|>assistant``, whose content is JSON: for the function ``name`` if it is
    known."""
    to = "final" if name is None else f"commentary to={_FUNCTIONS}{name}"
    return f"{_CHANNEL}{to} {_CONSTRAIN}json{_MESSAGE}"
