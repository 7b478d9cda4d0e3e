"""The answer to one request: deltas of the engine in, events of its choices out.

Streaming and non-streaming answers are both made of these events.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal, cast

import msgspec

from openllm import errors
from openllm.chat.detokenizer import Detokenizer
from openllm.chat.events import Event, Finished, TextDelta
from openllm.engines.base import Delta
from openllm.errors import OpenLLMError, RunnerDied
from openllm.fleet.desk import Desk
from openllm.fleet.submission import Submission

ChoiceEvent = tuple[int, Event]  # the index of the choice, and what happened to it


class Usage(msgspec.Struct):
    """Tokens, as OpenAI counts them: each prompt once, every choice's answer."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    def body(self) -> dict[str, object]:
        """The ``usage`` object."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }


class Answer:
    """Events of one submission. ``choices`` holds each sequence's detokenizer in the order of the choices.

    ``abandon`` must be called when nobody will read on; it is harmless after the end.
    """

    def __init__(
        self, desk: Desk, submission: Submission, choices: list[Detokenizer], prompt_tokens: int
    ) -> None:
        self.usage = Usage(prompt_tokens)
        self.quiet = False  # has nothing come since somebody set this to True?
        self._desk = desk
        self._submission = submission
        self._choices = {
            generation.id: (index, detokenizer)
            for index, (generation, detokenizer) in enumerate(
                zip(submission.generations, choices, strict=True)
            )
        }

    async def events(self) -> AsyncIterator[list[ChoiceEvent]]:
        """Batches of events as they come; an empty batch answers a ``nudge``.

        Raises ``RunnerDied``, ``RequestError`` or what ``Delta.kind`` names if a sequence ended with an error.
        """
        choices = self._choices
        take = self._submission.mailbox.take
        while choices:
            events: list[ChoiceEvent] = []
            deltas = await take()
            self.quiet = False
            for delta in deltas:
                known = choices.get(delta.id)
                if known is not None:
                    self._read(delta, known[0], known[1], events)
            if events or deltas[-1] is _NOTHING:
                yield events

    def nudge(self) -> None:
        """Make ``events`` yield an empty batch, so that a stream can show that it lives."""
        self._submission.mailbox.put(_NOTHING)

    def abandon(self) -> None:
        """Stop generating what is not finished."""
        self._desk.cancel(self._submission)

    def _read(self, delta: Delta, index: int, detokenizer: Detokenizer, events: list[ChoiceEvent]) -> None:
        tokens = delta.tokens
        usage = self.usage
        usage.completion_tokens += len(tokens)
        usage.cached_tokens = min(usage.prompt_tokens, usage.cached_tokens + delta.cached)
        text = detokenizer.push(tokens) if tokens else ""
        if detokenizer.stopped is not None:
            reason: Literal["stop", "length"] = "stop"
            self._desk.cancel(self._submission, (delta.id,))
        elif delta.finish is None:
            if text:
                events.append((index, TextDelta(text)))
            return
        elif delta.finish == "error":
            raise _error(delta)
        else:
            text += detokenizer.finish()
            # A held-back stop string may be completed by the last bytes.
            reason = "length" if delta.finish == "length" and detokenizer.stopped is None else "stop"
        if text:
            events.append((index, TextDelta(text)))
        events.append((index, Finished(reason)))
        del self._choices[delta.id]


def _error(delta: Delta) -> OpenLLMError:
    kind = getattr(errors, delta.kind, RunnerDied)
    return cast(OpenLLMError, kind(delta.error))


_NOTHING = Delta(-1, [])
