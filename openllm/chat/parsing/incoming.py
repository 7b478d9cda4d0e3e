"""The text of an answer as it comes, read by generators that wait where what came so far does not decide.

A parser is written as if the whole text were there; ``yield`` stands for "wait for more". As nothing is decided
before it is certain, the result does not depend on how the text was split.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from functools import lru_cache
from typing import TypeVar

T = TypeVar("T")
Steps = Generator[None, None, T]
"""Reads on as far as it can at each ``next``, and returns a T in the end."""

_NO_SPACE = re.compile(r"\S")


class Incoming:
    """A text that grows at its end and is read from its beginning.

    ``add`` and ``end`` are for whoever has the text, all else is for the generator that reads it. Once the text
    has ended nothing waits any more, and "" is read for ever.
    """

    __slots__ = ("_at", "_ended", "_record", "_text")

    def __init__(self) -> None:
        self._text = ""
        self._at = 0  # what is before has been read
        self._ended = False
        self._record: list[str] | None = None

    def add(self, text: str) -> None:
        """More text has come."""
        self._text = self._text[self._at :] + text
        self._at = 0

    def end(self) -> None:
        """No more will come."""
        self._ended = True

    def record(self, before: str = "") -> None:
        """Note what is read from here on, behind ``before``, until ``recorded`` or ``forget``."""
        self._record = [before]

    def recorded(self) -> str:
        """What was noted; the noting ends."""
        text = "".join(self._record or ())
        self._record = None
        return text

    def forget(self) -> None:
        """End the noting."""
        self._record = None

    def peek(self) -> Steps[str]:
        """The next character, which stays; "" at the end."""
        while self._at == len(self._text) and not self._ended:
            yield
        return self._text[self._at : self._at + 1]

    def ahead(self, *options: str) -> Steps[str]:
        """The one of ``options`` that comes next, which stays, or "". None may be the beginning of another."""
        while True:
            for option in options:
                if self._text.startswith(option, self._at):
                    return option
            rest = self._text[self._at :] if len(self._text) - self._at < max(map(len, options)) else None
            if self._ended or rest is None or not any(option.startswith(rest) for option in options):
                return ""
            yield

    def literal(self, *options: str) -> Steps[str]:
        """As ``ahead``, and read it."""
        found = yield from self.ahead(*options)
        return self._take(len(found))

    def up_to(self, stop: re.Pattern[str]) -> Steps[str]:
        """Some text without a match of ``stop``, which matches single characters. "" where one is next, or at
        the end; otherwise there may be more."""
        while self._at == len(self._text) and not self._ended:
            yield
        found = stop.search(self._text, self._at)
        return self._take((found.start() if found else len(self._text)) - self._at)

    def run(self, stop: re.Pattern[str], most: int) -> Steps[str]:
        """All text up to the next match of ``stop``; "" if there are more than ``most`` characters."""
        text = ""
        while piece := (yield from self.up_to(stop)):
            text += piece
            if len(text) > most:
                return ""
        return text

    def rest(self, emit: Callable[[str], None]) -> Steps[None]:
        """Pass on all that comes until the end."""
        while (yield from self.peek()):
            emit(self._take(len(self._text) - self._at))

    def space(self) -> Steps[None]:
        """Read white space."""
        while (yield from self.up_to(_NO_SPACE)):
            pass

    def character(self) -> Steps[str]:
        """Read one character; "" at the end."""
        yield from self.peek()
        return self._take(min(1, len(self._text) - self._at))

    def piece(self, markers: tuple[str, ...]) -> Steps[tuple[str, str]]:
        """Text before the first of ``markers`` as far as it is certain, and the marker if it is there, both read.
        Both are "" at the end only."""
        pattern = _any_of(markers)
        while True:
            found = pattern.search(self._text, self._at)
            if found is not None:
                text = self._take(found.start() - self._at)
                return text, self._take(len(found[0]))
            text = self._take(len(self._text) - self._at - (0 if self._ended else self._held(markers)))
            if text or self._ended:
                return text, ""
            yield

    def before(self, markers: tuple[str, ...], most: int) -> Steps[tuple[str, str]]:
        """All text before the first of ``markers``, and it. The marker is "" if it does not come within ``most``
        characters."""
        text = ""
        while True:
            piece, marker = yield from self.piece(markers)
            text += piece
            if len(text) > most:
                return text, ""
            if marker or not piece:
                return text, marker

    def _take(self, count: int) -> str:
        piece = self._text[self._at : self._at + count]
        self._at += count
        if self._record is not None:
            self._record.append(piece)
        return piece

    def _held(self, markers: tuple[str, ...]) -> int:
        """How many of the last characters may be the beginning of a marker."""
        text = self._text
        longest, firsts = _beginnings(markers)
        for start in range(max(self._at, len(text) - longest), len(text)):
            if text[start] in firsts:
                rest = text[start:]
                for marker in markers:
                    if marker.startswith(rest):
                        return len(rest)
        return 0


@lru_cache(maxsize=64)
def _any_of(markers: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, markers)))


@lru_cache(maxsize=64)
def _beginnings(markers: tuple[str, ...]) -> tuple[int, frozenset[str]]:
    """The length of the longest part of a marker that is not all of it, and the characters that begin markers."""
    return max(map(len, markers)) - 1, frozenset(marker[0] for marker in markers)
