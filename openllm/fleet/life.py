"""One life of a runner: from its process's start until that is gone, and what it ended of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from openllm.engines.base import EngineConfig
from openllm.errors import OpenLLMError, RunnerFailed
from openllm.fleet.adapters import as_error
from openllm.fleet.ending import ending, memory_kills
from openllm.fleet.garbage import Garbage
from openllm.fleet.process import RunnerProcess
from openllm.fleet.signs import signs
from openllm.fleet.spawn import Spawned
from openllm.fleet.watch import Patience, Watch
from openllm.runner.wire import Failed, Load, Stop, ToFront, ToRunner

_STOP_SECONDS = 5.0
_LONGEST_GARBAGE = 300  # characters of what is told of it


class Life:
    """A runner that was ``spawned`` lives from ``begin`` on, and is gone after ``bury`` or ``end``.

    ``began_at``, ``ready_at`` and ``heard_at``, the last time that it was heard while it loaded, are seconds of
    ``clock``. ``silent_since`` says when it was heard last while it had work, None while it has none.
    """

    def __init__(
        self,
        spawned: Spawned,
        *,
        patience: Patience,
        clock: Callable[[], float],
        silent_since: Callable[[], float | None],
    ) -> None:
        self.began_at = self.heard_at = clock()
        self.ready_at: float | None = None
        self._process = RunnerProcess(spawned)
        self._patience = patience
        self._clock = clock
        self._silent_since = silent_since
        self._over = asyncio.Event()
        self._failed: Failed | None = None
        self._cause = ""  # why we ended it ourselves
        self._memory_kills = 0

    @property
    def pid(self) -> int | None:
        """The process id; None as long as it is not known."""
        return self._process.pid

    @property
    def failed(self) -> bool:
        """Has the runner said what broke it?"""
        return self._failed is not None

    async def begin(self, config: EngineConfig, receive: Callable[[ToFront], None]) -> None:
        """Have it load, if it was not told to already; ``receive`` gets what it says from now on."""
        self._memory_kills = memory_kills()
        self.began_at = self._clock()
        await self._process.attach(receive, self.leave, self._distrust)
        if not self._process.loading:
            self._process.send(Load(config))
        self.heard()

    async def until_over(self) -> None:
        """Wait for the end of its process, or until it is left; end it if it hangs."""
        watching = asyncio.create_task(self._watch())
        try:
            await self._over.wait()
        finally:
            watching.cancel()

    def send(self, message: ToRunner) -> None:
        """Queue one message; does not block."""
        self._process.send(message)

    def heard(self) -> None:
        """It said something while it loads."""
        self.heard_at = self._clock()

    def become_ready(self) -> float:
        """It says that it is; when. Raises ``Garbage`` if it has done so before."""
        if self.ready_at is not None:
            raise Garbage("that it is ready, again")
        self.ready_at = self._clock()
        return self.ready_at

    def fail(self, failed: Failed) -> None:
        """It says what broke it: it ends by itself."""
        self._failed = failed

    def reject(self, failed: Failed | None) -> None:
        """What it says has made it of no use: end it, for that reason."""
        self._failed = failed
        self._process.kill()

    def leave(self) -> None:
        """Wait for its end no longer."""
        self._over.set()

    async def bury(self) -> OpenLLMError:
        """Reap the process, killing it if need be; why it ended."""
        status = await self._process.reap()
        if self._cause:
            return RunnerFailed(f"the runner was ended: {self._cause}")
        if self._failed is not None:
            return as_error(self._failed)
        return ending(status, memory_kills=memory_kills() - self._memory_kills)

    async def end(self, *, politely: bool) -> None:
        """Have the process end; kill it at once unless ``politely``."""
        if politely:
            self._process.send(Stop())
            await self._process.wait(_STOP_SECONDS)
        await self._process.reap()

    async def _watch(self) -> None:
        """End the runner if it hangs."""
        between = self._patience.between_looks
        watch = Watch(self._patience)
        while between is not None:
            await asyncio.sleep(between)
            loading = self.ready_at is None
            since = self.heard_at if loading else self._silent_since()
            cause = watch.look(
                self._clock(), since, loading=loading, signs=lambda: signs(self._process.at_work)
            )
            if cause is not None:
                self._end_for(cause)
                return

    def _distrust(self, garbage: str) -> None:
        """The runner sent what cannot be right."""
        self._end_for(f"it sent garbage: {garbage[:_LONGEST_GARBAGE]}")

    def _end_for(self, cause: str) -> None:
        """End the runner, which is not what it should be."""
        self._cause = self._cause or cause
        self._process.kill()
        self.leave()
