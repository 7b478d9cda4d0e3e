"""What a parser finds in an answer: its events."""

from __future__ import annotations

import secrets

from openllm.chat.events import Event, ReasoningDelta, TextDelta, ToolCallDelta


class Enough(Exception):
    """The answer has all the calls it may have: the rest of it does not matter."""


class Outgoing:
    """Events of one answer. ``most_calls`` are as many calls as it may have; at the end of the last one ``end``
    raises ``Enough``.

    White space around reasoning and before a call belongs to the markup and is left out. ``holds_space`` says
    that calls may come: white space waits then until what follows it is known.
    """

    __slots__ = (
        "_begun",
        "_events",
        "_holds_space",
        "_most_calls",
        "_space",
        "_thought_space",
        "calls",
        "thinking",
    )

    def __init__(self, most_calls: int | None = None, *, holds_space: bool = True) -> None:
        self.calls = 0
        """Calls begun."""
        self.thinking = False
        """Is what comes now reasoning?"""
        self._events: list[Event] = []
        self._most_calls = most_calls
        self._holds_space = holds_space
        self._space = ""
        self._thought_space: str | None = None  # None before the first thought
        self._begun = True  # False where white space is not yet text

    def text(self, piece: str) -> None:
        """Text for the user."""
        if not self._begun:
            piece = piece.lstrip()
            self._begun = bool(piece)
        if not self._holds_space:
            if piece:
                self._events.append(TextDelta(piece))
            return
        piece = self._space + piece
        body = piece.rstrip()
        self._space = piece[len(body) :]
        if body:
            self._events.append(TextDelta(body))

    def begin_thought(self) -> None:
        """Reasoning begins."""
        self.thinking = True

    def thought(self, piece: str) -> None:
        """Text that the model thinks."""
        if self._thought_space is None:
            piece = piece.lstrip()
            if not piece:
                return
        piece = (self._thought_space or "") + piece
        body = piece.rstrip()
        self._thought_space = piece[len(body) :]
        if body:
            self._events.append(ReasoningDelta(body))

    def end_thought(self) -> None:
        """The reasoning is over; white space before the text is left out."""
        self.thinking = False
        if self._thought_space is not None:
            self._thought_space = ""
        self._begun = False

    def begin(self, name: str) -> None:
        """A call begins."""
        self._space = ""
        self._events.append(ToolCallDelta(self.calls, id=f"call_{secrets.token_hex(12)}", name=name))
        self.calls += 1

    def arguments(self, piece: str) -> None:
        """More of the JSON text of the call's arguments."""
        if piece:
            self._events.append(ToolCallDelta(self.calls - 1, arguments=piece))

    def end(self) -> None:
        """The call is complete. Raises ``Enough`` if it was the last one allowed."""
        if self.calls == self._most_calls:
            raise Enough

    def close(self) -> None:
        """The answer is complete: white space that waited is text, unless it stands behind calls."""
        if self._space and not self.calls:
            self._events.append(TextDelta(self._space))
        self._space = ""

    def take(self) -> list[Event]:
        """The events since the last time."""
        events, self._events = self._events, []
        return events
