"""Where the hub is, who asks, and where its files are kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

PUBLIC_HUB = "https://huggingface.co"


class HubSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the hub is reached. ``cache`` is the shared cache folder of all hub clients on this machine;
    ``timeout`` in seconds, for connecting and between two pieces of a file."""

    cache: str
    endpoint: str = PUBLIC_HUB
    token: str | None = None
    timeout: float = 10.0

    def __repr__(self) -> str:
        shown = "set" if self.token else "none"  # a token never reaches a log
        return f"HubSettings(endpoint={self.endpoint!r}, cache={self.cache!r}, token={shown})"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> HubSettings:
        """Settings as the hub's own client would take them from ``environ``. May read the saved token's file.

        Source: huggingface_hub's documented variables (HF_ENDPOINT, HF_TOKEN, HF_TOKEN_PATH, HF_HOME,
        HF_HUB_CACHE, HF_HUB_DOWNLOAD_TIMEOUT).
        """
        home = _hub_home(environ)
        cache = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE") or str(home / "hub")
        return cls(
            cache=str(_path(cache, environ)),
            endpoint=(environ.get("HF_ENDPOINT") or PUBLIC_HUB).rstrip("/"),
            token=_token(environ, home),
            timeout=_seconds(environ.get("HF_HUB_DOWNLOAD_TIMEOUT")),
        )


def _path(text: str, environ: Mapping[str, str]) -> Path:
    if text == "~" or text.startswith("~/"):
        text = environ.get("HOME", str(Path.home())) + text[1:]
    return Path(text)


def _hub_home(environ: Mapping[str, str]) -> Path:
    base = environ.get("XDG_CACHE_HOME") or "~/.cache"
    return _path(environ.get("HF_HOME") or f"{base}/huggingface", environ)


def _token(environ: Mapping[str, str], home: Path) -> str | None:
    given = environ.get("HF_TOKEN") or environ.get("HUGGING_FACE_HUB_TOKEN")
    if given:
        return given.strip() or None
    saved = _path(environ.get("HF_TOKEN_PATH") or str(home / "token"), environ)
    try:
        return saved.read_text().strip() or None
    except OSError:
        return None


def _seconds(text: str | None) -> float:
    try:
        return max(1.0, float(text or 10))
    except ValueError:
        return 10.0
