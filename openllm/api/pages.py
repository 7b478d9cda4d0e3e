"""Pages of a listing, as OpenAI's API has them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel


class Page(BaseModel):
    """What every page has beside its ``data``: the ids at its ends, and whether more follow."""

    object: Literal["list"]
    first_id: str | None
    last_id: str | None
    has_more: bool


def page_body(data: list[dict[str, Any]], more: bool) -> dict[str, Any]:
    """A page of objects that have an ``id``."""
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": more,
    }
