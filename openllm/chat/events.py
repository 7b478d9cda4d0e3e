"""What the front knows of an answer as it comes: the events that every response is made of."""

from __future__ import annotations

from typing import Literal

import msgspec

StopReason = Literal["stop", "length", "tool_calls"]
"""OpenAI's words for why an answer ended: "stop" for the model's own end or a stop string, "length" for a limit,
"tool_calls" where it ended with calls."""


class TokenLogprob(msgspec.Struct, frozen=True, gc=False):
    """A token's text, its UTF-8 bytes (a token may be half a character) and its natural logarithm of probability."""

    token: str
    bytes: bytes
    logprob: float


class TextLogprobs(msgspec.Struct, frozen=True, gc=False):
    """One generated token and the likeliest ones at its place, the likeliest first."""

    chosen: TokenLogprob
    top: tuple[TokenLogprob, ...]


class TextDelta(msgspec.Struct, frozen=True, gc=False):
    """New text of the answer; never empty unless it carries ``logprobs``, which are there only if asked for."""

    text: str
    logprobs: tuple[TextLogprobs, ...] = ()


class ReasoningDelta(msgspec.Struct, frozen=True, gc=False):
    """New text of what the model thinks before it answers; never empty."""

    text: str


class ToolCallDelta(msgspec.Struct, frozen=True, gc=False):
    """A part of the ``index``-th tool call.

    The first part of a call has its ``id`` and ``name`` and no arguments; each later one has a piece of
    ``arguments``, whose pieces together are the text of one JSON object.
    """

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


class Finished(msgspec.Struct, frozen=True, gc=False):
    """The answer's end, the last event of it. ``stopped`` is the stop string that was met."""

    reason: StopReason
    stopped: str | None = None


Event = TextDelta | ReasoningDelta | ToolCallDelta | Finished
