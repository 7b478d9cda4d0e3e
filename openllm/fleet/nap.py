"""When a model that has nothing to do goes to sleep."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from openllm.fleet.duration import NEVER


class Nap:
    """Calls ``doze`` when nothing has been done for so long as is kept; ``usual`` seconds unless a request has said
    otherwise since the model was loaded. Both may be ``NEVER``. Needs an event loop."""

    def __init__(self, usual: float, doze: Callable[[], None]) -> None:
        self.seconds = usual
        self._usual = usual
        self._doze = doze
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Nothing is being done from now on."""
        self.end()
        if self.seconds < NEVER:
            self._timer = asyncio.get_running_loop().call_later(self.seconds, self._doze)

    def end(self) -> None:
        """Something is being done."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def forget(self) -> None:
        """The model is unloaded: what requests have said no longer counts."""
        self.end()
        self.seconds = self._usual
