"""Who a request is from, for fair queueing and for limits."""

from __future__ import annotations

from contextvars import ContextVar

from openllm.fleet.caller import ANYONE, Caller

__all__ = ["ANYONE", "CALLER", "Caller"]

CALLER: ContextVar[Caller] = ContextVar("caller", default=ANYONE)
"""The caller of the request that this task serves; set by the outermost layers, read where work is submitted."""
