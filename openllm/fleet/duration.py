"""Durations as people write them: "30s", "5m", "1h30m"."""

from __future__ import annotations

import math
import re

from openllm.errors import UsageError

NEVER = math.inf
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = r"(\d+(?:\.\d+)?)(ms|s|m|h|d)"
_WHOLE = re.compile(rf"(?:{_PART})+")
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")


def parse_duration(text: str) -> float:
    """Seconds of "90", "30s", "5m", "1h30m" or "500ms"; ``NEVER`` for "never" and for a negative number.

    Raises ``UsageError`` for anything else.
    """
    text = text.strip().lower()
    if text == "never":
        return NEVER
    if _NUMBER.fullmatch(text):
        return from_number(float(text))
    if _WHOLE.fullmatch(text):
        return sum(float(number) * _SECONDS[unit] for number, unit in re.findall(_PART, text))
    raise UsageError(f"{text!r} is not a duration.", hint="Write it like 30s, 5m, 1h, or -1 for never.")


def from_number(seconds: float) -> float:
    """A negative number of seconds means never."""
    return NEVER if seconds < 0 else seconds
