"""The LoRA adapters of one model as the front knows them: which can be named, and what the runner was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import msgspec

from openllm import errors
from openllm.engines.base import AdapterFiles
from openllm.errors import InvalidAdapter, ModelNotServed, OpenLLMError, RunnerDied, RunnerFailed
from openllm.runner.wire import AdapterDone, Failed, LoadAdapter, ToRunner, UnloadAdapter

Send = Callable[[ToRunner], None]
_LOOK_SECONDS = 0.02  # between two looks at whether an adapter's last sequence has ended


class Served(msgspec.Struct, frozen=True):
    """An adapter that requests may name: ``reference`` is what its user called it by, a folder or a hub id."""

    name: str
    reference: str


class Adapters:
    """Names to be served, and their adapters' life in the runner.

    What is loaded is loaded again into each runner that follows (``files``). Changes go one after the other, and
    only to a runner that is ready (``open`` to ``close``).
    """

    def __init__(self, served: Iterable[Served], answering: Callable[[str], int]) -> None:
        """``served`` will be loaded at the start; ``answering`` counts the open sequences of an adapter."""
        self._served = {each.name: each for each in served}
        self._files: dict[str, AdapterFiles] = {}
        self._answering = answering
        self._send: Send | None = None
        self._asked: tuple[str, asyncio.Future[None]] | None = None
        self._turn = asyncio.Lock()

    def __contains__(self, name: str) -> bool:
        return name in self._served

    def list(self) -> list[Served]:
        """Those that requests may name, oldest first."""
        return list(self._served.values())

    def find(self, name: str) -> Served | None:
        return self._served.get(name)

    @property
    def changing(self) -> bool:
        """Is a change under way?"""
        return self._turn.locked()

    def begin(self, files: Iterable[AdapterFiles]) -> None:
        """These are what the first runner loads."""
        self._files = {each.name: each for each in files}

    @property
    def files(self) -> tuple[AdapterFiles, ...]:
        """What a new runner loads before it is ready."""
        return tuple(self._files.values())

    def open(self, send: Send) -> None:
        """A runner is ready."""
        self._send = send

    def close(self) -> None:
        """The runner is gone: what it was asked failed."""
        self._send = None
        self._settle(RunnerDied("The model's runner ended while it loaded or unloaded an adapter."))

    def done(self, answer: AdapterDone) -> OpenLLMError | None:
        """The runner answers. Returns what is wrong with an adapter that a new runner could not load again; it can
        no longer be named."""
        error = None if answer.failed is None else as_error(answer.failed)
        if self._asked is not None and self._asked[0] == answer.name:
            self._settle(error)
            return None
        if error is not None:
            self._forget(answer.name)
        return error

    async def load(self, served: Served, files: AdapterFiles) -> None:
        """Load an adapter into the ready runner, and let requests name it.

        Raises ``InvalidAdapter`` if it cannot be applied, ``RunnerFailed`` if no runner is ready, ``RunnerDied`` if
        it ends meanwhile. Then the name is not served.
        """
        async with self._turn:
            if served.name in self._served:
                raise InvalidAdapter(
                    f"The adapter {served.name!r} has already been loaded.",
                    hint="Unload it first, or choose another name.",
                    param="lora_name",
                )
            await self._ask(served.name, LoadAdapter(files))
            self._served[served.name] = served
            self._files[served.name] = files

    async def unload(self, name: str) -> None:
        """Let no more requests name an adapter, wait until those that do have ended, and give its room back.

        Raises ``ModelNotServed`` if there is none of that name; else as ``load``.
        """
        async with self._turn:
            if name not in self._served:
                raise ModelNotServed(
                    f"The adapter {name!r} is not loaded.", hint="See /v1/models.", param="lora_name"
                )
            send = self._send
            if send is None:
                raise _not_ready()
            self._forget(name)
            while self._answering(name):  # noqa: ASYNC110 - the end of an answer is no business of ours
                await asyncio.sleep(_LOOK_SECONDS)
            if self._send is send:  # else it went with its runner
                await self._ask(name, UnloadAdapter(name))

    async def _ask(self, name: str, message: ToRunner) -> None:
        if self._send is None:
            raise _not_ready()
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked = name, answer
        self._send(message)
        await answer

    def _settle(self, error: OpenLLMError | None) -> None:
        if self._asked is None:
            return
        answer = self._asked[1]
        self._asked = None
        if answer.done():  # whoever asked has gone
            return
        if error is None:
            answer.set_result(None)
        else:
            answer.set_exception(error)

    def _forget(self, name: str) -> None:
        self._served.pop(name, None)
        self._files.pop(name, None)


def as_error(failed: Failed) -> OpenLLMError:
    """What a runner said was wrong, as an error of this process."""
    kind = getattr(errors, failed.kind, RunnerFailed)
    error: OpenLLMError = kind(failed.message, hint=failed.hint)
    return error


def _not_ready() -> RunnerFailed:
    return RunnerFailed("The engine is not ready.", hint="Try again when /readyz says 200.")
