"""The files and batches of this server, as its routes get them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
from fastapi import Depends, Request
from starlette.types import ASGIApp

from openllm.api.dispatch import Dispatcher
from openllm.api.roster import Models
from openllm.batches.attempts import Attempts
from openllm.batches.backlog import Backlog
from openllm.batches.storage import DataFolder, Storage, lock_folder
from openllm.errors import MachineError, OpenLLMError, Overloaded

# What a batch may ask, as far as the application has it.
_ENDPOINTS = frozenset(
    ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/rerank", "/v1/score")
)
_MOST_UPLOADS = 32
_FOLDER_SECONDS = 10.0


class ArchiveOptions(msgspec.Struct, frozen=True, kw_only=True):
    """``folder`` is where everything is kept, or why there is none; a path is of one that another server is about to
    give back. ``most_bytes`` bounds all files together,
    ``longest_upload`` one of them; ``width`` is how many lines are under way together."""

    folder: Path | DataFolder | MachineError
    most_bytes: int
    longest_upload: int
    width: int


class Archive:
    """Opened in the background: the server answers before. What needs it waits, or gets why there is none.

    ``routes`` is the application that answers the lines of batches, set when that is assembled.
    """

    def __init__(self, options: ArchiveOptions) -> None:
        self.longest_upload = options.longest_upload
        self.routes: ASGIApp | None = None
        self._uploads = 0
        self._options = options
        self._opened: asyncio.Future[tuple[Storage, Backlog]] = asyncio.get_running_loop().create_future()

    @property
    def endpoints(self) -> frozenset[str]:
        """The routes that a batch may use."""
        return _ENDPOINTS & {route.path for route in getattr(self.routes, "routes", ())}

    async def open(self, models: Models, tell: Callable[[str], None]) -> None:
        """Open the folder and go on with its batches. Tells why if it cannot."""
        options = self._options
        assert self.routes is not None
        send = Dispatcher(self.routes).send

        def ready(model: str) -> bool:
            return not models.draining and _available(models, model)

        try:
            folder = options.folder
            if isinstance(folder, Path):
                folder = await _given_back(folder)
            if isinstance(folder, MachineError):
                raise folder
            storage = await asyncio.to_thread(Storage, folder, options.most_bytes)
            backlog = Backlog(storage, Attempts(send, ready, options.width), models.check_name)
            await backlog.start(tell)
        except (OpenLLMError, OSError) as error:
            self._refuse(error, tell)
        else:
            self._opened.set_result((storage, backlog))

    async def close(self) -> None:
        """Stop the batches where they are; a later start goes on with them."""
        if self._opened.done() and self._opened.exception() is None:
            storage, backlog = self._opened.result()
            await backlog.stop()
            storage.close()

    @contextmanager
    def uploading(self) -> Iterator[None]:
        """Take part in the uploads under way. Raises ``Overloaded`` when there are too many of them."""
        if self._uploads >= _MOST_UPLOADS:
            raise Overloaded(f"{_MOST_UPLOADS} uploads are under way.", hint="Try again later.")
        self._uploads += 1
        try:
            yield
        finally:
            self._uploads -= 1

    async def storage(self) -> Storage:
        """Raises ``MachineError`` where there is none."""
        storage, _ = await asyncio.shield(self._opened)
        return storage

    async def backlog(self) -> Backlog:
        """Raises ``MachineError`` where there is none."""
        _, backlog = await asyncio.shield(self._opened)
        return backlog

    def _refuse(self, error: OpenLLMError | OSError, tell: Callable[[str], None]) -> None:
        if isinstance(error, OSError):
            error = MachineError(
                f"The data folder cannot be used: {error}.", hint="Choose another --data-dir."
            )
        tell(f"no files and batches: {error.message} {error.hint or ''}".rstrip())
        self._opened.set_exception(error)
        self._opened.exception()  # seen, also if no route ever asks


async def _given_back(path: Path) -> DataFolder:
    """A folder, as soon as the server that has it lets it go. Raises ``MachineError``."""
    ends = time.monotonic() + _FOLDER_SECONDS
    while True:
        try:
            return lock_folder(path)
        except MachineError:
            if time.monotonic() >= ends:
                raise
        await asyncio.sleep(0.05)


def _available(models: Models, model: str) -> bool:
    try:
        return models.find(model).keeper.available
    except OpenLLMError:
        return False


async def _get_archive(request: Request) -> Archive:
    archive = request.app.state.archive
    assert isinstance(archive, Archive)
    return archive


Archived = Annotated[Archive, Depends(_get_archive)]
