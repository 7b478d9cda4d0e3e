"""Text of an answer in, events out, as it comes."""

from __future__ import annotations

from collections.abc import Callable

from openllm.chat.events import Event
from openllm.chat.parsing.incoming import Incoming, Steps
from openllm.chat.parsing.outgoing import Enough, Outgoing

Script = Callable[[Incoming, Outgoing], Steps[None]]
"""Reads a whole answer."""


class AnswerParser:
    """Runs ``script`` over an answer. One an answer; not thread-safe; raises nothing, whatever the text.

    The events do not depend on how the text was split, but for how their texts are split.
    """

    __slots__ = ("_out", "_source", "_steps", "complete")

    def __init__(self, script: Script, most_calls: int | None = None, *, holds_space: bool = True) -> None:
        self._source = Incoming()
        self._out = Outgoing(most_calls, holds_space=holds_space)
        self._steps = script(self._source, self._out)
        self.complete = False
        """Nothing that may still come matters."""

    @property
    def called(self) -> bool:
        """Is there a call in what has come?"""
        return bool(self._out.calls)

    @property
    def thinking(self) -> bool:
        """Does what came last belong to reasoning?"""
        return self._out.thinking

    def push(self, text: str) -> list[Event]:
        """The events that are certain with more text."""
        if self.complete:
            return []
        self._source.add(text)
        self._advance()
        return self._out.take()

    def finish(self) -> list[Event]:
        """The events of what was held back."""
        if not self.complete:
            self._source.end()
            self._advance()
        self._out.close()
        return self._out.take()

    def _advance(self) -> None:
        try:
            next(self._steps)
        except Enough:
            self.complete = True
        except StopIteration:
            pass  # the text has ended
