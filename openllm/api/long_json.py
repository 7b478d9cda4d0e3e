"""Reads JSON in which a text may be megabytes long.

A parser holds the interpreter until it has read a text to its end, 2 ms a megabyte where it is full of escapes. So long
texts are cut out, read in pieces, and put back.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

from openllm.errors import RequestError

Span = tuple[int, int]
"""From a byte to a byte that are both within one text."""
_PIECE = 256 * 1024
_LONGEST_CHARACTER = 12  # bytes: two halves of a surrogate pair, as escapes
_NUMBER = 4  # digits


def read_json(body: bytes, long_texts: Sequence[Span] = ()) -> Any:
    """What ``body`` says, by the letter: UTF-8, no NaN, and no half of a surrogate pair.

    ``long_texts`` are what of it is worth being read in pieces, in order. Raises ``JSONDecodeError``, and
    ``RequestError`` where one of them is a key.
    """
    if not long_texts:
        return _decoded(body)
    cut = _Cut(body)
    for first, last in long_texts:
        cut.take(first, last)
    return cut.read()


def _decoded(text: bytes) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise json.JSONDecodeError(str(error), "", 0) from None


class _Cut:
    """A body whose long texts are taken out; a mark that nobody can guess stands in the place of each."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0
        self._parts: list[bytes] = []
        self._texts: list[str] = []
        self._mark = secrets.token_hex(16)

    def take(self, first: int, last: int) -> None:
        """Take out what stands between the two bytes of a text, and a bit around it."""
        # The last quote before it is the one that opens the text, or an escaped one: a character ends there.
        start = self._body.rfind(b'"', self._at, first) + 1
        if not start:
            return
        self._parts += (self._body[self._at : start], f"{self._mark}{len(self._texts):0{_NUMBER}x}".encode())
        pieces = []
        while last - start > _PIECE:
            text, start = self._piece(start)
            pieces.append(text)
        self._texts.append("".join(pieces))
        self._at = start

    def _piece(self, start: int) -> tuple[str, int]:
        """The text of the next piece, and where it ends: between two characters, as within one it cannot be read."""
        longest = start + _PIECE
        for end in range(longest, longest - _LONGEST_CHARACTER, -1):
            try:
                text: str = msgspec.json.decode(b'"%b"' % self._body[start:end], type=str)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            return text, end
        raise json.JSONDecodeError("Invalid text", "", start)

    def read(self) -> Any:
        """The whole value."""
        whole = [_decoded(b"".join((*self._parts, self._body[self._at :])))]
        found = self._put_back(whole)
        if found != len(self._texts):
            raise RequestError("A key in the body is too long.", hint="Send shorter keys.")
        return whole[0]

    def _put_back(self, whole: list[Any]) -> int:
        """Put each text in the place of its mark; how many there were."""
        found = 0
        groups: list[Any] = [whole]
        while groups:
            group = groups.pop()
            for key, value in group.items() if isinstance(group, dict) else enumerate(group):
                if isinstance(value, (dict, list)):
                    groups.append(value)
                elif isinstance(value, str) and self._mark in value:
                    group[key], count = self._restored(value)
                    found += count
        return found

    def _restored(self, text: str) -> tuple[str, int]:
        before, *marked = text.split(self._mark)
        parts = [before]
        for part in marked:
            parts += (self._texts[int(part[:_NUMBER], 16)], part[_NUMBER:])
        return "".join(parts), len(marked)
