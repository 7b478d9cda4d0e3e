"""The answer to one request: deltas of the engine in, events of its choices out.

Streaming and non-streaming answers are both made of these events. Everything here is called from the engine's
message on, without a task in between: it is the per-token path.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Protocol, cast

import msgspec

from openllm import errors
from openllm.api.exchange import submit
from openllm.api.token_teller import TokenTeller
from openllm.chat.detokenizer import Detokenizer
from openllm.chat.events import Event, Finished, StopReason, TextDelta
from openllm.chat.parsing.parser import AnswerParser
from openllm.engines.base import Delta, Sampling
from openllm.errors import OpenLLMError, RunnerDied
from openllm.fleet.desk import Desk

_log = logging.getLogger("openllm.api")
ChoiceEvent = tuple[int, Event]  # the index of the choice, and what happened to it


class Reader(Protocol):
    """Who reads an answer. Must not block."""

    def read(self, events: list[ChoiceEvent]) -> None:
        """What one delta brought, in order; never empty."""

    def end(self, error: OpenLLMError | None) -> None:
        """The answer is complete, or ended with an error. Called once, last."""


class Usage(msgspec.Struct):
    """Tokens, as OpenAI counts them: each prompt once, every choice's answer."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    def add(self, delta: Delta, completion_tokens: int) -> None:
        """Count a delta, of which ``completion_tokens`` belong to the answer."""
        self.completion_tokens += completion_tokens
        if delta.prompt:
            self.prompt_tokens = delta.prompt
        if delta.cached:
            self.cached_tokens = min(self.prompt_tokens, self.cached_tokens + delta.cached)

    def body(self) -> dict[str, object]:
        """The ``usage`` object."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
        }


class Choice(msgspec.Struct, frozen=True):
    """One choice to be generated: its prompt, how it is sampled, what turns its ids into text, and what reads calls
    and reasoning out of that text, None where it is nothing but text. ``teller`` is for a ``ToldAnswer``."""

    prompt: list[int]
    sampling: Sampling
    detokenizer: Detokenizer
    parser: AnswerParser | None = None
    teller: TokenTeller | None = None


class Order(msgspec.Struct, frozen=True):
    """What one request wants answered: ``choices`` whose prompts have ``prompt_tokens`` in all, each prompt counted
    once. ``adapter`` is "" for the model itself; ``option_names`` are what an engine's words for an option are in a
    refusal of this request: words, and a field's name."""

    choices: list[Choice]
    prompt_tokens: int
    adapter: str = ""
    images: tuple[bytes, ...] = ()
    option_names: Mapping[str, tuple[str, str]] = {}


class Answer:
    """Submits the choices of ``order`` together and passes their events to ``reader``.

    ``abandon`` must be called when nobody will read on; it is harmless after the end.
    """

    def __init__(self, desk: Desk, order: Order, reader: Reader) -> None:
        self.usage = Usage(order.prompt_tokens)
        self._desk = desk
        self._reader = reader
        pairs = [(choice.prompt, choice.sampling) for choice in order.choices]
        self._submission = submit(desk, pairs, self._take, adapter=order.adapter, images=order.images)
        self._open = {
            generation.id: (index, choice.detokenizer, choice.parser)
            for index, (generation, choice) in enumerate(
                zip(self._submission.generations, order.choices, strict=True)
            )
        }

    def abandon(self) -> None:
        """Stop generating what is not finished."""
        self._open.clear()
        self._desk.cancel(self._submission)

    def _take(self, delta: Delta) -> None:
        """A mistake of ours in this answer is not to harm those that the same step brings tokens for."""
        try:
            self._receive(delta)
        except Exception:
            _log.exception("an answer could not be made")
            self.abandon()
            self._reader.end(OpenLLMError("The server made a mistake; its log says more."))

    def _receive(self, delta: Delta) -> None:
        known = self._open.get(delta.id)
        if known is None:
            return
        index, detokenizer, parser = known
        tokens = delta.tokens
        self.usage.add(delta, len(tokens))
        text = detokenizer.push(tokens) if tokens else ""
        if delta.finish is None and parser is None and detokenizer.stopped is None:
            if text:
                self._reader.read([(index, TextDelta(text))])
        elif delta.finish == "error":
            self._fail(delta)
        elif parser is not None:
            self._parse(delta, index, detokenizer, parser, text)
        else:
            self._finish(delta, index, detokenizer, text)

    def _parse(
        self, delta: Delta, index: int, detokenizer: Detokenizer, parser: AnswerParser, text: str
    ) -> None:
        """The way of an answer in which there may be calls or reasoning."""
        thought = parser.thinking
        events = parser.push(text) if text else []
        if thought or parser.thinking:  # the marks around it count too
            self.usage.reasoning_tokens += len(delta.tokens)
        if delta.finish is None and detokenizer.stopped is None and not parser.complete:
            if events:
                self._reader.read([(index, happened) for happened in events])
            return
        events += parser.push(detokenizer.finish())
        events += parser.finish()
        limited = delta.finish == "length" and detokenizer.stopped is None and not parser.complete
        called: StopReason = "tool_calls" if parser.called else "stop"
        finished = Finished("length" if limited else called, detokenizer.stopped)
        self._end(delta, index, [(index, happened) for happened in events], finished)

    def _finish(self, delta: Delta, index: int, detokenizer: Detokenizer, text: str) -> None:
        text += detokenizer.finish()
        # What was held back may complete a stop string.
        limited = delta.finish == "length" and detokenizer.stopped is None
        events: list[ChoiceEvent] = [(index, TextDelta(text))] if text else []
        self._end(delta, index, events, Finished("length" if limited else "stop", detokenizer.stopped))

    def _end(self, delta: Delta, index: int, events: list[ChoiceEvent], finished: Finished) -> None:
        """The last events of a choice."""
        if delta.finish is None:
            self._desk.cancel(self._submission, (delta.id,), "stop")
        events.append((index, finished))
        del self._open[delta.id]
        self._reader.read(events)
        if not self._open:
            self._reader.end(None)

    def _fail(self, delta: Delta) -> None:
        self.abandon()
        kind = getattr(errors, delta.kind, RunnerDied)
        self._reader.end(cast(OpenLLMError, kind(delta.error, param=delta.param or None)))
