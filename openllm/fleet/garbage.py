"""What a runner sends that cannot be right."""

from __future__ import annotations

from array import array
from math import isfinite

from openllm.engines.encoding import Vector


class Garbage(Exception):
    """Never told to a client as it is: the runner is ended for it. Its text says what was sent."""


def check_numbers(vector: Vector) -> None:
    """Raise ``Garbage`` unless it is made of finite numbers."""
    try:
        # NaN and infinity survive a sum, and no sum of 32-bit floats is too large for one of 64.
        sound = bool(vector.values) and isfinite(sum(array("f", vector.values)))
    except ValueError:
        sound = False
    if not sound:
        raise Garbage(f"a vector of {len(vector.values)} bytes that is not made of numbers")
