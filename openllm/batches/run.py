"""One batch, from its first status to its last. The one writer of its record."""

from __future__ import annotations

import asyncio
import copy
import secrets
from collections.abc import AsyncIterator
from functools import partial

import msgspec

from openllm.batches.attempts import Attempts, Reply
from openllm.batches.journal import Answered, Failure, Journal, Response
from openllm.batches.lines import CheckModel, Line, Remaining, check_file
from openllm.batches.records import BatchRecord, FileRecord, LineError, Outcome, now
from openllm.batches.storage import Storage
from openllm.batches.writer import Writer, patiently
from openllm.errors import Conflict

_UNANSWERED = {
    "expired": Failure("batch_expired", "The completion window ended before this request was answered."),
    "cancelled": Failure("batch_cancelled", "The batch was cancelled before this request was answered."),
}


class Run:
    """Runs ``record`` to its end, from wherever an earlier process left it."""

    def __init__(
        self, record: BatchRecord, storage: Storage, attempts: Attempts, check_model: CheckModel
    ) -> None:
        self.record = record
        self._storage = storage
        self._attempts = attempts
        self._check_model = check_model
        self._cancelled = asyncio.Event()
        if record.status == "cancelling":
            self._cancelled.set()

    async def cancel(self) -> None:
        """Have it end as cancelled, soon. Raises ``Conflict`` if it ends already."""
        record = self.record
        if record.status == "cancelling":
            return
        if record.status not in ("validating", "in_progress"):
            raise Conflict(f"The batch is {record.status}; it cannot be cancelled.")
        record.become("cancelling")
        self._cancelled.set()
        await self._save()

    async def run(self) -> None:
        """Returns when the batch has ended. When cancelled, what was answered so far is kept."""
        try:
            if not self.record.total and not await self._validate():
                return
            await self._answer_all()
        except FileNotFoundError as error:
            await self.fail([LineError("missing_file", f"A file of the batch is gone: {error.filename}.")])

    async def fail(self, errors: list[LineError]) -> None:
        """End without any output."""
        self.record.errors = errors
        self.record.become("failed")
        await self._save()

    async def _validate(self) -> bool:
        record = self.record
        path = self._storage.content(record.input_file_id)
        found = await asyncio.to_thread(check_file, path, record.endpoint, self._check_model)
        if found.errors:
            await self.fail(found.errors)
            return False
        record.total, record.model = found.total, found.model
        if record.status == "validating":
            record.become("in_progress")
        await self._save()
        return True

    async def _answer_all(self) -> None:
        storage, record = self._storage, self.record
        paths = storage.content(record.output_id), storage.content(record.errors_id)
        journal = await patiently(partial(Journal, *paths), paths[0].parent)
        self._count(journal)
        async with Writer(journal) as writer:
            outcome = record.outcome or await self._until_decided(writer)
            await self._decide(outcome)
            if outcome != "completed":
                async for line in self._remaining(journal):
                    writer.add(_unanswered(line, outcome))
                self._count(journal)
            await writer.drain()
        await self._publish(outcome)

    async def _until_decided(self, writer: Writer) -> Outcome:
        """Answer lines until all are, or the window ends, or somebody cancels."""
        feeding = asyncio.create_task(self._feed(writer))
        cancelled = asyncio.create_task(self._cancelled.wait())
        tasks = (feeding, cancelled)
        try:
            left = max(0, self.record.expires_at - now())
            await asyncio.wait(tasks, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if self._cancelled.is_set():
            return "cancelled"
        if feeding.cancelled():
            return "expired"
        feeding.result()
        return "completed"

    async def _decide(self, outcome: Outcome) -> None:
        """What the batch ends as is known, and survives from here on."""
        self.record.outcome = outcome
        if outcome != "cancelled":
            self.record.become("finalizing")
        await self._save()

    async def _feed(self, writer: Writer) -> None:
        """Keep as many lines under way as there are places."""
        places = self._attempts.places
        async with asyncio.TaskGroup() as under_way:
            async for line in self._remaining(writer.journal):
                await writer.writable.wait()
                await self._attempts.until_ready(self._model)
                await places.acquire()
                task = under_way.create_task(self._answer(line, writer))
                task.add_done_callback(lambda _: places.release())

    async def _answer(self, line: Line, writer: Writer) -> None:
        reply = await self._attempts.answer(self.record.owner, self._model, line)
        writer.add(_answered(line, reply))
        self._count(writer.journal)

    async def _remaining(self, journal: Journal) -> AsyncIterator[Line]:
        """The lines without an answer."""
        remaining = Remaining(self._storage.content(self.record.input_file_id), journal.done)
        while lines := await asyncio.to_thread(remaining.take):
            for line in lines:
                yield line

    async def _publish(self, outcome: Outcome) -> None:
        """The output files and the last status, all at once: whoever sees the one finds the others."""
        ended = copy.deepcopy(self.record)
        ended.output_file_id, output = self._output(ended.output_id, "output")
        ended.error_file_id, errors = self._output(ended.errors_id, "error")
        ended.become(outcome)
        await self._save(ended, output + errors)
        self.record = ended

    def _output(self, name: str, kind: str) -> tuple[str | None, tuple[FileRecord, ...]]:
        path = self._storage.content(name)
        size = path.stat().st_size
        if not size:
            path.unlink()
            return None, ()
        made = now()
        return name, (
            FileRecord(
                id=name,
                owner=self.record.owner,
                bytes=size,
                created_at=made,
                filename=f"{self.record.id}_{kind}.jsonl",
                purpose="batch_output",
                expires_at=made + self.record.output_seconds,
            ),
        )

    async def _save(self, record: BatchRecord | None = None, files: tuple[FileRecord, ...] = ()) -> None:
        record = record or self.record
        folder = self._storage.content(record.id).parent
        await patiently(lambda: self._storage.save_batch(record, files), folder)

    def _count(self, journal: Journal) -> None:
        record = self.record
        record.completed, record.failed, record.usage = journal.completed, journal.failed, journal.usage

    @property
    def _model(self) -> str:
        return self.record.model or ""


def _answered(line: Line, reply: Reply) -> Answered:
    response = Response(reply.status, reply.request_id, msgspec.Raw(reply.body))
    return Answered(_request_id(), line.custom_id, response, None)


def _unanswered(line: Line, outcome: Outcome) -> Answered:
    return Answered(_request_id(), line.custom_id, None, _UNANSWERED[outcome])


def _request_id() -> str:
    return f"batch_req_{secrets.token_hex(12)}"
