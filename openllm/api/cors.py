"""Lets pages of other origins ask from a browser. Off unless asked for."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

_LIMITS = ("limit", "remaining", "reset")
# Besides these a page sees only what every page may.
_EXPOSED = [
    "x-request-id",
    "retry-after",
    *(f"x-ratelimit-{what}-{kind}" for kind in ("requests", "tokens") for what in _LIMITS),
]


def cross_origin(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """``origins`` are like https://chat.example.org, or * for every one. Keys are headers: no cookies are allowed."""
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["*"],
        expose_headers=_EXPOSED,
        max_age=3600,
    )
