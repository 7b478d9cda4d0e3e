"""A call as a JSON object with a name and arguments: what most formats put between their marks."""

from __future__ import annotations

import json
import re
from collections.abc import Container

from openllm.chat.parsing.incoming import Incoming, Steps
from openllm.chat.parsing.outgoing import Outgoing
from openllm.chat.tool_calls.json_text import json_string, json_value

_NAME = re.compile(r"[\w.:/-]{1,128}")
_SURPLUS = re.compile(r"[^\s}\]]")
_ARGUMENTS = ("arguments", "parameters")
_HARMLESS = ("type", "id", "index")


def is_name(name: str | None) -> bool:
    """May a function be called so?"""
    return name is not None and _NAME.fullmatch(name) is not None


def begin_call(source: Incoming, out: Outgoing, name: str) -> None:
    """What came so far is certainly a call: it will not be given as text."""
    source.forget()
    out.begin(name)


def json_calls(
    source: Incoming, out: Outgoing, ends: tuple[str, ...] = (), names: Container[str] | None = None
) -> Steps[bool]:
    """A call or a list of calls. False if the first is none: what was recorded is text then.

    ``ends`` end a call whose brackets are not closed. With ``names``, for places where nothing but itself says
    that an object is a call, it must be of one of these functions and have no other keys than calls have.
    """
    if not (yield from source.literal("[")):
        return (yield from json_call(source, out, ends, names))
    found = False
    while True:
        yield from source.space()
        if not (yield from json_call(source, out, ends, names)):
            if found:
                _give_back(source, out)
            return found
        found = True
        source.record()
        yield from source.space()
        if not (yield from source.literal(",")):
            source.forget()
            yield from source.literal("]")
            return True


def surplus(source: Incoming) -> Steps[None]:
    """Read white space and closing brackets behind a call: models write one too many."""
    while (yield from source.up_to(_SURPLUS)):
        pass


def json_call(
    source: Incoming, out: Outgoing, ends: tuple[str, ...] = (), names: Container[str] | None = None
) -> Steps[bool]:
    """One call. False if it is none; see ``json_calls``.

    With its name and the beginning of its arguments it is certain, and its arguments are passed on from then on.
    """
    return (yield from _JsonCall(source, out, ends, names).read())


class _JsonCall:
    """The object that is being read."""

    def __init__(
        self, source: Incoming, out: Outgoing, ends: tuple[str, ...], names: Container[str] | None
    ) -> None:
        self._source = source
        self._out = out
        self._ends = ends
        self._names = names
        self._name = ""
        self._kept = ""  # arguments that came before the name
        self._begun = False

    def read(self) -> Steps[bool]:
        source = self._source
        if not (yield from source.literal("{")):
            return False
        while True:
            yield from source.space()
            if (yield from source.literal("}")):
                return self._close()
            if not (yield from self._entry()):
                return self._begun
            yield from source.space()
            if not (yield from source.literal(",")):
                break
        closed = yield from source.literal("}")
        if not closed and self._ends:
            closed = yield from source.ahead(*self._ends)
        return self._close() if closed else self._begun

    def _close(self) -> bool:
        """The object is complete."""
        if not self._begun:
            if not self._name:
                return False
            begin_call(self._source, self._out, self._name)
            self._out.arguments(self._kept or "{}")
            self._out.end()
        return True

    def _entry(self) -> Steps[bool]:
        """A key and its value; False if they make no call."""
        source = self._source
        key = yield from json_string(source)
        if key is None:
            return False
        yield from source.space()
        if not (yield from source.literal(":")):
            return False
        yield from source.space()
        if key == "name" and not self._name:
            name = yield from json_string(source)
            if name is None or not is_name(name) or (self._names is not None and name not in self._names):
                return False
            self._name = name
            return True
        if key in _ARGUMENTS and not self._begun and not self._kept:
            return (yield from self._arguments())
        if self._names is not None and not self._begun and key not in _HARMLESS:
            return False
        return (yield from json_value(source, _ignore, self._ends))

    def _arguments(self) -> Steps[bool]:
        first = yield from self._source.peek()
        if first == "{" and self._name:
            self._begun = True
            begin_call(self._source, self._out, self._name)
            whole = yield from json_value(self._source, self._out.arguments, self._ends)
            if whole:
                self._out.end()
            return whole
        if first == '"':  # JSON within a string
            self._kept = _object_text((yield from json_string(self._source)))
            return bool(self._kept)
        parts: list[str] = []
        whole = yield from json_value(self._source, parts.append, self._ends)
        self._kept = "{}" if parts == ["null"] else "".join(parts)
        return whole and self._kept.startswith("{")


def _object_text(text: str | None) -> str:
    """The text if it is a JSON object; a number or a list is no arguments."""
    try:
        return text if text and isinstance(json.loads(text, strict=False), dict) else ""
    except (ValueError, RecursionError):
        return ""


def _give_back(source: Incoming, out: Outgoing) -> None:
    out.text(source.recorded())


def _ignore(piece: str) -> None:
    """A value that says nothing of the call."""
