"""Who a request is from, for fair queueing and for limits."""

from __future__ import annotations

from contextvars import ContextVar

import msgspec


class Caller(msgspec.Struct, frozen=True):
    """``name`` is the API key's name, "" where there are no keys; ``background`` work waits behind everyone's."""

    name: str = ""
    background: bool = False


ANYONE = Caller()
CALLER: ContextVar[Caller] = ContextVar("caller", default=ANYONE)
"""The caller of the request that this task serves; set by the outermost layers, read where work is submitted."""
