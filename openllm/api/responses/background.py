"""Responses that run without a client: queued, in progress, ended, cancelled."""

from __future__ import annotations

import asyncio

from openllm.api.answer import ChoiceEvent
from openllm.api.dialect import Translation
from openllm.api.event_stream import told_error
from openllm.api.readers import EndWaiter
from openllm.api.responses.body import ResponseBody
from openllm.api.responses.events import EventWriter
from openllm.api.responses.store import Store, Stored
from openllm.api.service import Service
from openllm.errors import Overloaded

MAX_RUNNING = 256


class Background:
    """Runs responses as tasks, and keeps what becomes of them in ``store``."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(
        self, service: Service, translation: Translation, response: ResponseBody, stored: Stored
    ) -> None:
        """Run the response in a task of its own. Raises ``Overloaded`` if there are too many."""
        if len(self._tasks) >= MAX_RUNNING:
            raise Overloaded(f"{MAX_RUNNING} responses run in the background.", hint="Try again later.")
        self._store.put(stored)
        job = _Job(response, stored)
        task = asyncio.create_task(self._run(service, translation, job))
        self._tasks[stored.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(stored.id))

    def cancel(self, stored: Stored) -> None:
        """Stop it, if it has not ended by itself."""
        task = self._tasks.get(stored.id)
        if task is not None and not stored.ended:
            task.cancel()
            stored.become({**stored.content(), "status": "cancelled"})

    async def _run(self, service: Service, translation: Translation, job: _Job) -> None:
        try:
            try:
                usage = await translation.answer(service, job)
            except Exception as error:
                job.log(job.writer.fail(told_error(error)))
            else:
                job.log(job.writer.end(usage))
        finally:
            stored = job.stored
            if job.writer.final is not None:
                stored.become(job.writer.final)
                self._store.put(stored)
            if stored.log is not None:
                stored.log.end()


class _Job(EndWaiter):
    """Reads the answer of one response."""

    def __init__(self, response: ResponseBody, stored: Stored) -> None:
        super().__init__()
        self.stored = stored
        self.writer = EventWriter(response)
        self._response = response
        self.log(self.writer.queue())

    def begin_again(self) -> bool:
        return self.stored.status == "queued" and super().begin_again()

    def read(self, events: list[ChoiceEvent]) -> None:
        if self.stored.status == "queued":
            self.stored.become(self._response.unfinished("in_progress"))
            self.log(self.writer.start())
        self.log(self.writer.write(events))

    def log(self, chunk: bytes) -> None:
        if self.stored.log is not None:
            self.stored.log.write(chunk)
