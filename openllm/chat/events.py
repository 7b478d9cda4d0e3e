"""What the front knows of an answer as it comes: the events that every response is made of."""

from __future__ import annotations

from typing import Literal

import msgspec


class TextDelta(msgspec.Struct, frozen=True, gc=False):
    """New text of the answer; never empty."""

    text: str


class Finished(msgspec.Struct, frozen=True, gc=False):
    """The answer's end, the last event of it.

    ``reason`` is OpenAI's word for why: "stop" for the model's own end or a stop string, "length" for a limit.
    """

    reason: Literal["stop", "length"]


Event = TextDelta | Finished
"""Reasoning and tool calls will be further members."""
