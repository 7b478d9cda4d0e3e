"""Who work is done for: what fair queueing shares between."""

from __future__ import annotations

import msgspec


class Caller(msgspec.Struct, frozen=True):
    """``name`` is the API key's name, "" where there are no keys; ``background`` work waits behind everyone's."""

    name: str = ""
    background: bool = False


ANYONE = Caller()
