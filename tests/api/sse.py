"""Reads Server-Sent Events."""

from __future__ import annotations

import json
from typing import Any


def events(stream: bytes) -> list[dict[str, Any]]:
    """The data of a stream's events; each event's name is its type. Comments are skipped."""
    found = []
    blocks = stream.decode().split("\n\n")
    assert blocks[-1] == ""
    for block in blocks[:-1]:
        if block.startswith(":"):
            continue
        name, data = block.split("\n")
        value = json.loads(data.removeprefix("data: "))
        assert name == f"event: {value['type']}"
        found.append(value)
    return found
