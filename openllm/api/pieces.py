"""An answer as the pieces it consists of: reasoning, texts and tool calls, one after the other.

Dialects that frame each piece, as Responses do with items and Messages with content blocks, are made of this. Pure.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from openllm.chat.events import Event, Finished, ReasoningDelta, TextDelta, TextLogprobs, ToolCallDelta

Kind = Literal["text", "reasoning", "call"]


class Piece:
    """One piece; ``index`` is its place in the answer. ``complete`` is False while it grows, and stays so for the
    last piece of an answer that a limit cut off. A call has an id and a name, its text is its arguments."""

    __slots__ = ("_parts", "call_id", "complete", "index", "kind", "logprobs", "name")

    def __init__(self, kind: Kind, index: int, call_id: str = "", name: str = "") -> None:
        self.kind = kind
        self.index = index
        self.call_id = call_id
        self.name = name
        self.complete = False
        self.logprobs: list[TextLogprobs] = []
        self._parts: list[str] = []

    @property
    def text(self) -> str:
        """All of it so far."""
        return "".join(self._parts)

    def blank(self) -> Piece:
        """The piece as it began."""
        return Piece(self.kind, self.index, self.call_id, self.name)

    def grow(self, text: str, logprobs: tuple[TextLogprobs, ...] = ()) -> Grown:
        """Add to its end."""
        self._parts.append(text)
        if logprobs:
            self.logprobs += logprobs
        return Grown(self, text, logprobs)


class Opened(msgspec.Struct, frozen=True):
    """A piece began; it is empty."""

    piece: Piece


class Grown(msgspec.Struct, frozen=True, gc=False):
    """A piece got ``text``."""

    piece: Piece
    text: str
    logprobs: tuple[TextLogprobs, ...] = ()


class Closed(msgspec.Struct, frozen=True):
    """A piece ended."""

    piece: Piece


Step = Opened | Grown | Closed


class Pieces:
    """The pieces of one answer, as its events come. One piece is open at a time: calls come one after the other."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.finished: Finished | None = None
        self._open: Piece | None = None
        self._call = -1  # the index, among the calls, of the one that is open

    def take(self, happened: Event) -> list[Step]:
        """Add an event and say what it changed. How a text is split into events changes no piece."""
        match happened:
            case TextDelta(text, logprobs):
                piece = self._open
                if piece is not None and piece.kind == "text":
                    return [piece.grow(text, logprobs)]
                opened = self._change("text")
                return [*opened, self.pieces[-1].grow(text, logprobs)]
            case ReasoningDelta(text):
                opened = [] if self._is_open("reasoning") else self._change("reasoning")
                return [*opened, self.pieces[-1].grow(text)]
            case ToolCallDelta():
                return self._call_part(happened)
            case Finished():
                return self._finish(happened)

    def _is_open(self, kind: Kind) -> bool:
        return self._open is not None and self._open.kind == kind

    def _call_part(self, part: ToolCallDelta) -> list[Step]:
        steps: list[Step] = []
        if not self._is_open("call") or part.index != self._call:
            steps = self._change("call", part.id, part.name)
            self._call = part.index
        if part.arguments:
            steps.append(self.pieces[-1].grow(part.arguments))
        return steps

    def _change(self, kind: Kind, call_id: str = "", name: str = "") -> list[Step]:
        """Close what is open and open a new piece."""
        steps = self._close(complete=True)
        piece = self._open = Piece(kind, len(self.pieces), call_id, name)
        self.pieces.append(piece)
        return [*steps, Opened(piece)]

    def _finish(self, finished: Finished) -> list[Step]:
        self.finished = finished
        return self._close(complete=finished.reason != "length")

    def _close(self, *, complete: bool) -> list[Step]:
        piece, self._open = self._open, None
        if piece is None:
            return []
        piece.complete = complete
        return [Closed(piece)]
