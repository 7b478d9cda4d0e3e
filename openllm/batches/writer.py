"""Brings a journal's answers to the disk, off the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from openllm.batches.journal import Answered, Journal
from openllm.batches.storage import disk_errors
from openllm.errors import DiskFull

_log = logging.getLogger("openllm.batches")
_FLUSH_SECONDS = 0.1
_FLUSHES_A_SYNC = 20  # what a power cut may undo; a killed process loses at most one flush
_DISK_FULL_SECONDS = 10.0
T = TypeVar("T")


class Writer:
    """Flushes ``journal`` in the background while its block runs, and at the block's end, however that comes.

    ``writable`` is clear while the disk is full: nothing is lost then, but more should not be asked for.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.writable = asyncio.Event()
        self.writable.set()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Writer:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])
        try:
            await asyncio.to_thread(self.journal.flush, sync=True)
        except OSError as error:
            _log.warning("answers of a batch could not be written and will be made again: %s", error)
        finally:
            self.journal.close()

    def add(self, answered: Answered) -> None:
        """Take an answer; does not block."""
        self.journal.add(answered)

    async def drain(self) -> None:
        """Wait until everything is on the disk, however long that is full."""
        await patiently(lambda: self.journal.flush(sync=True), self.journal.folder)

    async def _run(self) -> None:
        flushes = 0
        while True:
            await asyncio.sleep(_FLUSH_SECONDS)
            if not self.journal.waiting:
                continue
            flushes += 1
            try:
                await asyncio.to_thread(self.journal.flush, sync=flushes % _FLUSHES_A_SYNC == 0)
                self.writable.set()
            except OSError as error:
                self.writable.clear()
                _log.warning("a batch waits for the disk: %s", error)
                await asyncio.sleep(_DISK_FULL_SECONDS)


async def patiently(do: Callable[[], T], folder: Path) -> T:
    """Run ``do`` in a thread, again and again while the disk of ``folder`` is full."""
    while True:
        try:
            with disk_errors(folder):
                return await asyncio.to_thread(do)
        except DiskFull as error:
            _log.warning("a batch waits: %s", error.message)
            await asyncio.sleep(_DISK_FULL_SECONDS)
