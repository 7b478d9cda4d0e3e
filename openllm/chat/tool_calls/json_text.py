"""JSON inside of an answer, read as it comes and passed on as the model wrote it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from openllm.chat.parsing.incoming import Incoming, Steps

Emit = Callable[[str], None]

_IN_STRING = re.compile(r'["\\]')
_AFTER_SCALAR = re.compile(r"[\s,:\[\]{}\"<]")
_MOST_SCALAR = 512


def json_value(source: Incoming, emit: Emit, ends: tuple[str, ...] = ()) -> Steps[bool]:
    """Pass the text of the value that comes next to ``emit``, piece by piece.

    Brackets are counted and strings skipped, no more is checked: what a model wrote is its client's to judge. A
    text of ``ends`` outside of a string ends the value too, as models leave out brackets, and is not read. False
    if nothing is there that could be a value, or the text ended within it.
    """
    first = yield from source.peek()
    if first == '"':
        return (yield from _string(source, emit))
    if first in ("{", "["):
        return (yield from _nested(source, emit, ends))
    scalar = yield from source.run(_AFTER_SCALAR, _MOST_SCALAR)
    emit(scalar)
    return bool(scalar)


def json_string(source: Incoming) -> Steps[str | None]:
    """The string that comes next, decoded; None if none does or it is wrong."""
    parts: list[str] = []
    if (yield from source.peek()) != '"' or not (yield from _string(source, parts.append)):
        return None
    try:
        # Not strict: models write line breaks into strings.
        text = json.loads("".join(parts), strict=False)
    except ValueError:
        return None
    return text if isinstance(text, str) else None


def _string(source: Incoming, emit: Emit) -> Steps[bool]:
    emit((yield from source.character()))
    while True:
        piece = yield from source.up_to(_IN_STRING)
        if piece:
            emit(piece)
            continue
        mark = yield from source.character()
        emit(mark)
        if mark == "\\":
            emit((yield from source.character()))
        else:
            return mark == '"'  # or the text has ended


def _nested(source: Incoming, emit: Emit, ends: tuple[str, ...]) -> Steps[bool]:
    stop = _stops(ends)
    depth = 0
    while True:
        piece = yield from source.up_to(stop)
        if piece:
            emit(piece)
            continue
        mark = yield from source.peek()
        if not mark:
            return False
        if mark == '"':
            yield from _string(source, emit)
            continue
        if ends and (yield from source.ahead(*ends)):
            return True
        emit((yield from source.character()))
        depth += (mark in "{[") - (mark in "}]")
        if not depth:
            return True


def _stops(ends: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile('["{}\\[\\]' + "".join(re.escape(end[0]) for end in ends) + "]")
