"""What a client that waits is told of the engine's way to its answer, if it asks for that."""

from __future__ import annotations

from typing import Any

import msgspec

from openllm.api.exchange import EXCHANGE
from openllm.fleet.keeper import Keeper

_HEADER = b"x-openllm-progress"
_OFF = (b"", b"0", b"false", b"no", b"off")


def asked_by_header() -> bool:
    """Did the request that this task serves ask for progress?"""
    exchange = EXCHANGE.get()
    headers = () if exchange is None else exchange.headers
    return any(name == _HEADER and value.strip().lower() not in _OFF for name, value in headers)


def progress_body(keeper: Keeper) -> dict[str, Any]:
    """``fraction`` of what is being done is done, and the engine answers in ``eta_seconds``; null where unknown."""
    fraction, seconds = keeper.course.progress()
    return {
        "state": str(keeper.state),
        "doing": keeper.doing,
        "fraction": None if fraction is None else round(fraction, 3),
        "eta_seconds": None if seconds is None else round(seconds, 1),
    }


def progress_event(keeper: Keeper, model: str) -> bytes:
    """The same as an event. It has ``choices``, none, so that a client that reads chunks takes it for an empty one."""
    data = {"object": "openllm.progress", "model": model, "choices": [], **progress_body(keeper)}
    return b"event: openllm.progress\ndata: " + msgspec.json.encode(data) + b"\n\n"
