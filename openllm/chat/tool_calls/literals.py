"""Values in notations of other languages, written as JSON while they are read."""

from __future__ import annotations

import json
import re

import msgspec

from openllm.chat.parsing.incoming import Incoming, Steps
from openllm.chat.tool_calls.json_text import Emit

_DEPTH = 64
_WORDS = {
    "True": "true", "False": "false", "None": "null", "true": "true", "false": "false", "null": "null",
}  # fmt: skip
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_AFTER_WORD = re.compile(r"[^\w.+-]")
_MOST_WORD = 512
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "a": "\a", "v": "\v", "0": "\0", "\n": ""}
_CODES = {"x": 2, "u": 4, "U": 8}
_HEX = re.compile(r"[0-9a-fA-F]+")


class Notation(msgspec.Struct, frozen=True):
    """``quotes`` stand around a string; ``escapes``: do backslashes mean something in it, as in Python?
    ``bare_keys``: do keys stand without quotes?"""

    quotes: tuple[str, ...]
    escapes: bool
    bare_keys: bool


PYTHON = Notation(quotes=('"', "'"), escapes=True, bare_keys=False)


def literal_value(source: Incoming, emit: Emit, notation: Notation, depth: int = _DEPTH) -> Steps[bool]:
    """Read the value that comes next and give its JSON text to ``emit``; False where it is wrong."""
    if not depth:
        return False
    yield from source.space()
    quote = yield from source.literal(*notation.quotes)
    if quote:
        return (yield from _string(source, emit, quote, notation))
    mark = yield from source.literal("[", "{", "(")
    if mark == "{":
        return (yield from _mapping(source, emit, notation, depth - 1))
    if mark:
        return (yield from _list(source, emit, notation, "]" if mark == "[" else ")", depth - 1))
    word = yield from source.run(_AFTER_WORD, _MOST_WORD)
    text = _WORDS.get(word, word if _NUMBER.fullmatch(word) else "")
    emit(text)
    return bool(text)


def _list(source: Incoming, emit: Emit, notation: Notation, end: str, depth: int) -> Steps[bool]:
    emit("[")
    first = True
    while True:
        yield from source.space()
        if (yield from source.literal(end)):
            emit("]")
            return True
        if not first:
            emit(", ")
        if not (yield from literal_value(source, emit, notation, depth)):
            return False
        first = False
        if not (yield from _comma(source, end)):
            return False


def _mapping(source: Incoming, emit: Emit, notation: Notation, depth: int) -> Steps[bool]:
    emit("{")
    first = True
    while True:
        yield from source.space()
        if (yield from source.literal("}")):
            emit("}")
            return True
        if not first:
            emit(", ")
        if not (yield from _key(source, emit, notation)):
            return False
        emit(": ")
        if not (yield from literal_value(source, emit, notation, depth)):
            return False
        first = False
        if not (yield from _comma(source, "}")):
            return False


_AFTER_KEY = re.compile(r"[:{}\[\],<\n]")


def _key(source: Incoming, emit: Emit, notation: Notation) -> Steps[bool]:
    quote = yield from source.literal(*notation.quotes)
    if quote:
        if not (yield from _string(source, emit, quote, notation)):
            return False
    elif notation.bare_keys:
        name = yield from source.run(_AFTER_KEY, _MOST_WORD)
        if not name:
            return False
        emit(json.dumps(name.strip(), ensure_ascii=False))
    yield from source.space()
    return bool((yield from source.literal(":")))


def _comma(source: Incoming, end: str) -> Steps[bool]:
    """Read a comma, unless the end is next. False if neither is."""
    yield from source.space()
    if (yield from source.literal(",")):
        return True
    return bool((yield from source.ahead(end)))


def _string(source: Incoming, emit: Emit, quote: str, notation: Notation) -> Steps[bool]:
    marks = (quote, "\\") if notation.escapes else (quote,)
    emit('"')
    while True:
        piece, mark = yield from source.piece(marks)
        emit(json.dumps(piece, ensure_ascii=False)[1:-1])
        if mark == quote:
            emit('"')
            return True
        if mark:
            emit(json.dumps((yield from _escaped(source)), ensure_ascii=False)[1:-1])
        elif not piece:
            return False


def _escaped(source: Incoming) -> Steps[str]:
    """The character that an escape of Python's stands for; what is none is kept as it is, as Python does."""
    mark = yield from source.character()
    if mark not in _CODES:
        return _ESCAPES.get(mark, mark if mark in ("\\", "'", '"') else "\\" + mark)
    digits = ""
    for _ in range(_CODES[mark]):
        digits += yield from source.character()
    code = int(digits, 16) if len(digits) == _CODES[mark] and _HEX.fullmatch(digits) else -1
    # A surrogate is no character of its own.
    return chr(code) if 0 <= code < 0xD800 or 0xE000 <= code <= 0x10FFFF else f"\\{mark}{digits}"
