"""Looks at JSON as it comes in, and refuses what would be costly to parse: too many values, too deep, not UTF-8.

Python's parser and pydantic run on the event loop and hold the interpreter, so that one body of a million small
values would stop every stream for a second. Here each piece costs about a nanosecond a byte, most of it in C.
"""

from __future__ import annotations

import re

from openllm.errors import RequestError

MOST_VALUES = 400_000  # a batch of texts as token ids; parsing that many numbers takes some 40 ms
MOST_TEXTS = 60_000  # keys among them
MOST_KEYS = 20_000  # of all objects together; each unknown one is an error to be made
MOST_GROUPS = 20_000  # lists and objects
DEEPEST = 100
LONG_TEXT = 256 * 1024  # bytes of a text that is worth being read in pieces
_SPACE = bytes(set(range(256)) - set(b'"\\[]{},:NI'))
_BRACKETS = re.compile(rb"[\[\]{}]")
_OPEN = frozenset(b"[{")


class JsonLimits:
    """``feed`` the body piece by piece. Finds only what is costly: whether it is JSON is for the parser to say.

    So far it has had ``values`` (each comma is one), ``keys``, ``groups`` (lists and objects) and ``texts``, and is
    ``depth`` deep. ``long_texts`` are stretches of long texts: from a byte to a byte.
    """

    def __init__(self) -> None:
        self.values = 0
        self.keys = 0
        self.groups = 0
        self.texts = 0
        self.depth = 0
        self.deepest = 0
        self.long_texts: list[tuple[int, int]] = []
        self._fed = 0
        self._inside: int | None = None  # since which byte there was nothing but text
        self._in_text = False
        self._carried = b""  # a backslash whose second half is in the next piece
        self._first = True

    def feed(self, piece: bytes) -> None:
        """Raises ``RequestError``."""
        if self._first and piece:
            self._first = False
            # Python's parser would guess UTF-16 and UTF-32; RFC 8259 allows UTF-8 only.
            if 0 in piece[:4]:
                raise RequestError("The body is not UTF-8.", hint="Encode JSON as UTF-8, without a mark.")
        outside = self._outside(piece)
        self._fed += len(piece)
        if b"N" in outside or b"I" in outside:
            raise RequestError("NaN and Infinity are not JSON.", hint="Send null or leave it out.")
        self._count(outside)
        for bracket in _BRACKETS.findall(outside):
            self.depth += 1 if bracket[0] in _OPEN else -1
            self.deepest = max(self.deepest, self.depth)
            if self.depth > DEEPEST:
                raise RequestError(
                    f"The body is JSON that is nested more than {DEEPEST} deep.", hint="Send it flatter."
                )

    def _count(self, outside: bytes) -> None:
        self.values += outside.count(b",")
        self.keys += outside.count(b":")
        self.groups += outside.count(b"[") + outside.count(b"{")
        for count, most, what in (
            (self.values, MOST_VALUES, "values"),
            (self.texts, MOST_TEXTS, "texts"),
            (self.keys, MOST_KEYS, "keys"),
            (self.groups, MOST_GROUPS, "lists and objects"),
        ):
            if count > most:
                raise RequestError(
                    f"The JSON of the body has more than {most} {what}.", hint="Split the request."
                )

    def _outside(self, piece: bytes) -> bytes:
        """What of the piece stands outside strings and is not space, a number or a word."""
        piece = self._carried + piece
        self._carried = b""
        if b"\\" in piece:
            piece = piece.replace(b"\\\\", b"")
            if piece.endswith(b"\\"):
                piece, self._carried = piece[:-1], b"\\"
            piece = piece.replace(b'\\"', b"")
        parts = piece.translate(None, _SPACE).split(b'"')
        self.texts += len(parts) // 2
        self._measure(in_text=self._in_text and len(parts) == 1)
        outside = b"".join(parts[self._in_text :: 2])
        self._in_text ^= len(parts) % 2 == 0
        return outside

    def _measure(self, *, in_text: bool) -> None:
        """Note whether the piece that comes now lies within one text, as the one before it may have done."""
        if in_text:
            self._inside = self._fed if self._inside is None else self._inside
            return
        if self._inside is not None and self._fed - self._inside >= LONG_TEXT:
            self.long_texts.append((self._inside, self._fed))
        self._inside = None
