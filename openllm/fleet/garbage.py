"""What a runner sends that cannot be right."""

from __future__ import annotations


class Garbage(Exception):
    """Never told to a client as it is: the runner is ended for it. Its text says what was sent."""
