"""Answers that guided decoding forced into a form, whatever the model's own format of calls is."""

from __future__ import annotations

from openllm.chat.parsing.incoming import Incoming, Steps
from openllm.chat.parsing.outgoing import Outgoing
from openllm.chat.tool_calls.json_call import json_calls
from openllm.chat.tool_calls.schemas import Tools


def forced_function(source: Incoming, out: Outgoing, name: str) -> Steps[None]:
    """The whole answer are the arguments of one call of ``name``."""
    yield from source.space()
    if not (yield from source.peek()):
        return
    out.begin(name)
    yield from source.rest(out.arguments)


def calls_or_object(source: Incoming, out: Outgoing, tools: Tools) -> Steps[None]:
    """The whole answer is a list of calls, or an object, which is text."""
    source.record()
    yield from source.space()
    first = yield from source.peek()
    space = source.recorded()
    if first == "[":
        yield from forced_calls(source, out, tools)
    else:
        out.text(space)
        yield from source.rest(out.text)


def forced_calls(source: Incoming, out: Outgoing, tools: Tools) -> Steps[None]:
    """The whole answer is a list of calls, or one call: ``{"name": …, "parameters": {…}}``."""
    source.record()
    yield from source.space()
    if not (yield from json_calls(source, out, names=tools)):
        out.text(source.recorded())
    source.forget()
    yield from source.rest(out.text)
