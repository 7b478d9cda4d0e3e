"""All batches of this server: takes new ones in, goes on with old ones, and stops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable
from contextvars import Context

from openllm.batches.attempts import Attempts
from openllm.batches.lines import CheckModel
from openllm.batches.records import BatchRecord, LineError, now
from openllm.batches.run import Run
from openllm.batches.storage import Storage
from openllm.errors import Conflict, DiskFull, RequestError

MOST_UNFINISHED = 50
_SWEEP_SECONDS = 600.0
_log = logging.getLogger("openllm.batches")


class Backlog:
    """Runs the batches of ``storage``. Made and used on the event loop.

    ``check_model`` raises for a model that is not served.
    """

    def __init__(self, storage: Storage, attempts: Attempts, check_model: CheckModel) -> None:
        self._storage = storage
        self._attempts = attempts
        self._check_model = check_model
        self._runs: dict[str, tuple[Run, asyncio.Task[None]]] = {}
        self._sweeping: asyncio.Task[None] | None = None

    async def start(self, tell: Callable[[str], None]) -> None:
        """Go on with what an earlier process left."""
        left = await asyncio.to_thread(self._storage.open_batches)
        for record in left:
            self._start(record)
        if left:
            tell(f"going on with {len(left)} unfinished {'batch' if len(left) == 1 else 'batches'}")
        self._sweeping = asyncio.create_task(self._sweep())

    async def stop(self) -> None:
        """Stop all runs where they are; the next start goes on from there."""
        tasks = [task for _, task in self._runs.values()]
        if self._sweeping is not None:
            tasks.append(self._sweeping)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def create(
        self,
        owner: str,
        *,
        input_file_id: str,
        endpoint: str,
        completion_window: str,
        seconds: int,
        metadata: dict[str, str] | None,
        output_seconds: int,
    ) -> BatchRecord:
        """Take in a batch and begin with it; it expires in ``seconds``.

        Raises ``ObjectNotFound`` for its file, ``RequestError`` for a file that is no input, ``Conflict`` when
        its owner has too many, ``DiskFull``.
        """
        file = await asyncio.to_thread(self._storage.file, input_file_id, owner)
        if file.purpose != "batch":
            raise RequestError(
                f"The file {file.id} was uploaded for {file.purpose!r}.",
                hint="Upload it with purpose 'batch'.",
                param="input_file_id",
            )
        created = now()
        record = BatchRecord(
            id=f"batch_{secrets.token_hex(12)}",
            owner=owner,
            endpoint=endpoint,
            input_file_id=input_file_id,
            completion_window=completion_window,
            created_at=created,
            expires_at=created + seconds,
            metadata=metadata,
            output_seconds=output_seconds,
        )
        await asyncio.to_thread(self._storage.add_batch, record, MOST_UNFINISHED)
        self._start(record)
        return record

    async def get(self, name: str, owner: str) -> BatchRecord:
        """With the counts of this moment. Raises ``ObjectNotFound``."""
        return self._live(await asyncio.to_thread(self._storage.batch, name, owner))

    async def page(self, owner: str, *, after: str | None, limit: int) -> tuple[list[BatchRecord], bool]:
        """The newest first, and whether more follow. Raises ``ObjectNotFound`` for ``after``."""
        records, more = await asyncio.to_thread(self._storage.batches, owner, after=after, limit=limit)
        return [self._live(record) for record in records], more

    async def cancel(self, name: str, owner: str) -> BatchRecord:
        """Raises ``ObjectNotFound``, or ``Conflict`` when it has ended."""
        record = await self.get(name, owner)
        running = self._runs.get(name)
        if running is None:
            raise Conflict(f"The batch is {record.status}; it cannot be cancelled.")
        run, _ = running
        await run.cancel()
        return run.record

    def _live(self, record: BatchRecord) -> BatchRecord:
        running = self._runs.get(record.id)
        return record if running is None else running[0].record

    def _start(self, record: BatchRecord) -> None:
        run = Run(record, self._storage, self._attempts, self._check_model)
        # Not in the context of the request that made it: whose deadline and limits that has, a batch has not.
        task = asyncio.create_task(self._run(run), context=Context())
        self._runs[record.id] = run, task

    async def _run(self, run: Run) -> None:
        try:
            await run.run()
        except Exception:
            _log.exception("batch %s failed", run.record.id)
            await run.fail([LineError("server_error", "The server made a mistake; its log says more.")])
        finally:
            del self._runs[run.record.id]

    async def _sweep(self) -> None:
        """Delete expired files, for ever."""
        while True:
            with contextlib.suppress(OSError, DiskFull):
                await asyncio.to_thread(self._storage.sweep)
            await asyncio.sleep(_SWEEP_SECONDS)
