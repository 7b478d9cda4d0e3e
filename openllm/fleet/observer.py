"""What the fleet tells whoever counts. Called on the event loop, on the per-token path: must be quick."""

from __future__ import annotations

from typing import Protocol

from openllm.engines.base import FinishReason


class Observer(Protocol):
    """Times are in seconds."""

    def first_token(self, seconds: float) -> None:
        """A sequence got its first token, so long after it was submitted."""

    def next_token(self, seconds: float) -> None:
        """A sequence got tokens again, so long after the ones before."""

    def tokens(self, count: int) -> None:
        """One step brought so many tokens, all sequences together."""

    def finished(self, reason: FinishReason) -> None:
        """A sequence ended."""

    def woke(self, seconds: float) -> None:
        """A model that was asleep is ready, so long after it was asked for."""

    def restarted(self) -> None:
        """A runner that ended is started again."""
