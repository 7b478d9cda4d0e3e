"""From the engine's deltas to the events of a choice that tells more than its new text: logprobs, or the prompt."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from openllm.chat.detokenizer import Detokenizer
from openllm.chat.events import Event, ReasoningDelta, TextDelta, TextLogprobs
from openllm.chat.parsing.parser import AnswerParser
from openllm.chat.scored_text import Places, ScoredText
from openllm.chat.token_texts import TokenTexts
from openllm.engines.base import Delta

Opening = Callable[[Places | None], TextDelta]
"""Makes the prompt's text out of its logprobs, if they were asked for."""


class TokenTeller:
    """Of one choice. ``opening`` goes ahead of the first text; without ``keeps`` nothing else does, as no token was
    asked for.

    A parser may only read reasoning at the beginning: the rest is the text as it came, whose tokens are told.
    """

    def __init__(
        self,
        detokenizer: Detokenizer,
        texts: TokenTexts | None,
        parser: AnswerParser | None = None,
        *,
        opening: Opening | None = None,
        offset: int = 0,
        keeps: bool = True,
    ) -> None:
        self.keeps = keeps
        self.parser = parser
        self._text = ScoredText(detokenizer, texts, offset)
        self._opening = opening
        self._content = _Content(parser) if parser is not None else None

    def take(self, delta: Delta) -> list[Event]:
        """The events that are certain with a delta."""
        events: list[Event] = []
        if self._opening is not None:
            events += _present(self._opening(delta.prompt_logprobs))
            self._opening = None
        if self.keeps:
            events += self._read(self._text.push(delta.tokens, delta.logprobs))
        return events

    def finish(self) -> list[Event]:
        """The events of what was held back."""
        events = self._read(self._text.finish())
        return events + self._content.finish() if self._content is not None else events

    def _read(self, told: TextDelta) -> list[Event]:
        return _present(told) if self._content is None else self._content.read(told)


def _present(told: TextDelta) -> list[Event]:
    return [told] if told.text or told.logprobs else []


class _Content:
    """Finds the tokens of the text behind the reasoning."""

    _LONGEST_MARK = 64  # in tokens: how much of what seemed reasoning may yet turn out not to be

    def __init__(self, parser: AnswerParser) -> None:
        self._parser = parser
        self._came = 0  # characters
        self._begun = False
        self._waiting: list[TextLogprobs] = []

    def read(self, told: TextDelta) -> list[Event]:
        self._came += len(told.text)
        self._waiting += told.logprobs
        return self._tell(self._parser.push(told.text) if told.text else [])

    def finish(self) -> list[Event]:
        return self._tell(self._parser.finish())

    def _tell(self, events: list[Event]) -> list[Event]:
        """Text becomes one event with the tokens that it is made of."""
        text = "".join(happened.text for happened in events if isinstance(happened, TextDelta))
        if text and not self._begun:
            self._begin(self._came - len(text))
        if not self._begun:
            if self._parser.thinking:
                del self._waiting[: -self._LONGEST_MARK]
            return events
        told, self._waiting = tuple(self._waiting), []
        thoughts: list[Event] = [happened for happened in events if isinstance(happened, ReasoningDelta)]
        return thoughts + _present(TextDelta(text, told))

    def _begin(self, start: int) -> None:
        """The text begins at ``start``: forget the tokens that end before."""
        self._begun = True
        # Tokens of one character begin together, and none of them ends before it.
        first = max((entry.offset for entry in self._waiting if entry.offset <= start), default=0)
        self._waiting = [entry for entry in self._waiting if entry.offset >= first]


class MeanLogprob(msgspec.Struct):
    """Of the tokens of a choice, as they were generated."""

    total: float = 0.0
    count: int = 0

    def add(self, delta: Delta) -> None:
        """Count a delta's tokens."""
        for place in delta.logprobs or ():
            self.total += place[0][1]
            self.count += 1

    @property
    def value(self) -> float:
        """The mean; 0 of no token."""
        return self.total / self.count if self.count else 0.0
