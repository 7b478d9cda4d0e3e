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
    """Names to be served, and their adapters' life in the runners, one for each replica.

    What is loaded is loaded into each runner that follows (``files_for``). Changes go one after the other, and only to
    runners that are ready (``open`` to ``close``); one that becomes ready meanwhile is brought to the same state.
    """

    def __init__(self, served: Iterable[Served], answering: Callable[[str], int]) -> None:
        """``served`` will be loaded at the start; ``answering`` counts the open sequences of an adapter."""
        self._served = {each.name: each for each in served}
        self._files: dict[str, AdapterFiles] = {}
        self._answering = answering
        self._sends: dict[int, Send] = {}
        self._loaded: dict[int, dict[str, AdapterFiles]] = {}  # what each runner was told to load
        self._asked: dict[int, tuple[str, asyncio.Future[None]]] = {}
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
        """These are what the first runners load."""
        self._files = {each.name: each for each in files}

    def files_for(self, replica: int) -> tuple[AdapterFiles, ...]:
        """What a new runner of a replica loads before it is ready."""
        self._loaded[replica] = dict(self._files)
        return tuple(self._files.values())

    def open(self, send: Send, replica: int = 0) -> None:
        """A runner is ready. What has changed since it was told what to load, it is told before all else."""
        self._sends[replica] = send
        self._catch_up(replica)

    def close(self, replica: int = 0) -> None:
        """The runner is gone: what it was asked failed."""
        self._sends.pop(replica, None)
        self._loaded.pop(replica, None)
        self._settle(replica, RunnerDied("The model's runner ended while it loaded or unloaded an adapter."))

    def done(self, answer: AdapterDone, replica: int = 0) -> OpenLLMError | None:
        """A runner answers. Returns what is wrong with an adapter that a new runner could not load again; it can
        no longer be named."""
        error = None if answer.failed is None else as_error(answer.failed)
        asked = self._asked.get(replica)
        if asked is not None and asked[0] == answer.name:
            self._settle(replica, error)
            return None
        if error is not None:
            self._loaded.get(replica, {}).pop(answer.name, None)
            self._served.pop(answer.name, None)
            self._files.pop(answer.name, None)
        return error

    async def load(self, served: Served, files: AdapterFiles) -> None:
        """Load an adapter into all ready runners, and let requests name it.

        Raises ``InvalidAdapter`` if it cannot be applied, ``RunnerFailed`` if no runner is ready, ``RunnerDied`` if
        all end meanwhile. Then the name is not served.
        """
        async with self._turn:
            if served.name in self._served:
                raise InvalidAdapter(
                    f"The adapter {served.name!r} has already been loaded.",
                    hint="Unload it first, or choose another name.",
                    param="lora_name",
                )
            if not self._sends:
                raise _not_ready()
            await self._unload_everywhere(
                served.name
            )  # where one of that name was left, another runner lacks it
            await self._load_everywhere(files)
            self._served[served.name] = served
            self._files[served.name] = files
            for replica in self._sends:
                self._catch_up(replica)

    async def unload(self, name: str) -> None:
        """Let no more requests name an adapter, wait until those that do have ended, and give its room back.

        Raises ``ModelNotServed`` if there is none of that name; else as ``load``.
        """
        async with self._turn:
            if name not in self._served:
                raise ModelNotServed(
                    f"The adapter {name!r} is not loaded.", hint="See /v1/models.", param="lora_name"
                )
            if not self._sends:
                raise _not_ready()
            self._served.pop(name)
            while self._answering(name):  # noqa: ASYNC110 - the end of an answer is no business of ours
                await asyncio.sleep(_LOOK_SECONDS)
            self._files.pop(name, None)
            _raise_first(await self._unload_everywhere(name))

    async def _load_everywhere(self, files: AdapterFiles) -> None:
        """Raises why no runner has it then."""
        asked = tuple(self._sends)
        for replica in asked:
            self._loaded[replica][files.name] = files
        errors = await self._ask(asked, files.name, LoadAdapter(files))
        for replica in errors:
            self._loaded.get(replica, {}).pop(files.name, None)
        died = [error for error in errors.values() if isinstance(error, RunnerDied)]
        if len(died) == len(errors) < len(asked):  # the next runners of those that died will load it
            return
        await self._unload_everywhere(files.name)
        _raise_first({replica: error for replica, error in errors.items() if error not in died} or errors)

    async def _unload_everywhere(self, name: str) -> dict[int, OpenLLMError]:
        """From the runners that have it. What went wrong in those that live."""
        having = [replica for replica in self._sends if name in self._loaded[replica]]
        for replica in having:
            del self._loaded[replica][name]
        return await self._ask(having, name, UnloadAdapter(name))

    async def _ask(self, replicas: Iterable[int], name: str, message: ToRunner) -> dict[int, OpenLLMError]:
        """Ask runners, and wait for the answers of all. Those that are errors."""
        answers: dict[int, asyncio.Future[None]] = {}
        for replica in replicas:
            answers[replica] = asyncio.get_running_loop().create_future()
            self._asked[replica] = name, answers[replica]
            self._sends[replica](message)
        errors: dict[int, OpenLLMError] = {}
        for replica, answer in answers.items():
            try:
                await answer
            except OpenLLMError as error:
                errors[replica] = error
        return errors

    def _catch_up(self, replica: int) -> None:
        """Tell a runner what has changed since it was told what to load."""
        send, loaded = self._sends[replica], self._loaded.setdefault(replica, {})
        for name, files in tuple(loaded.items()):
            if self._files.get(name) is not files and not self._answering(name):
                del loaded[name]
                send(UnloadAdapter(name))
        for name, files in self._files.items():
            if name not in loaded:
                loaded[name] = files
                send(LoadAdapter(files))

    def _settle(self, replica: int, error: OpenLLMError | None) -> None:
        _, answer = self._asked.pop(replica, ("", None))
        if answer is None or answer.done():  # whoever asked has gone
            return
        if error is None:
            answer.set_result(None)
        else:
            answer.set_exception(error)


def _raise_first(errors: dict[int, OpenLLMError]) -> None:
    for error in errors.values():
        raise error


def as_error(failed: Failed) -> OpenLLMError:
    """What a runner said was wrong, as an error of this process."""
    kind = getattr(errors, failed.kind, RunnerFailed)
    error: OpenLLMError = kind(failed.message, hint=failed.hint)
    return error


def _not_ready() -> RunnerFailed:
    return RunnerFailed("The engine is not ready.", hint="Try again when /readyz says 200.")
