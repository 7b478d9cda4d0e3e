"""How one model is to be kept, and what its keeper asks of others."""

from __future__ import annotations

from typing import Protocol

import msgspec

from openllm.fleet.duration import NEVER


class Upkeep(msgspec.Struct, frozen=True, kw_only=True):
    """Its runner is stopped after ``idle_seconds`` without a request, unless it is ``pinned``; ``on_demand`` has it
    begin asleep, and then a start that fails is told to whoever asked for it: without, it ends the server."""

    idle_seconds: float = NEVER
    on_demand: bool = False
    pinned: bool = False


class Gate(Protocol):
    """Where memory is shared with other models: asked before each start of a runner."""

    async def enter(self) -> bool:
        """Wait until there is room for a runner. False if nobody wants one any more."""

    def leave(self) -> None:
        """The runner is gone, or was not started after all."""

    def changed(self) -> None:
        """Something came that wants a runner, or the last such thing ended, or the runner became ready."""


class OpenGate:
    """Where there is one model."""

    async def enter(self) -> bool:
        return True

    def leave(self) -> None:
        """Nobody waits for it."""

    def changed(self) -> None:
        """Nobody waits for it."""


class PastStarts(Protocol):
    """How long earlier starts took, in seconds. Both block briefly."""

    def expected(self) -> float | None: ...
    def learn(self, seconds: float) -> None: ...


class NoPast:
    """Where nothing is remembered."""

    def expected(self) -> float | None:
        return None

    def learn(self, seconds: float) -> None:
        """Forgets it."""
