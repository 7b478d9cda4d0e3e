"""Engines in processes of their own, as in service: vLLM and OpenVINO each bring threads and global state."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from typing import Any

from openllm.engines.base import Delta, EngineConfig, Generation, Sampling

_STEPS = 5000


class Child:
    """An object that lives in another process; what its methods raise is raised here."""

    def __init__(self, make: Callable[..., Any], *args: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, args), daemon=True)
        self._process.start()
        theirs.close()
        self._answer()

    def ask(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call ``function(object, *args)`` over there."""
        self._pipe.send((function, args))
        return self._answer()

    def close(self) -> None:
        self._pipe.send(None)
        self._process.join(30)
        assert self._process.exitcode == 0

    def _answer(self) -> Any:
        try:
            value = self._pipe.recv()
        except EOFError as error:
            raise AssertionError("the child process died") from error
        if isinstance(value, Exception):
            raise value
        return value


class EngineChild(Child):
    """The ``Engine`` methods of an engine that another process runs."""

    def __init__(self, config: EngineConfig) -> None:
        super().__init__(_open, config)
        self.config = config

    def add(self, request: Generation) -> None:
        self._call("add", request)

    def abort(self, request_id: int) -> None:
        self._call("abort", request_id)

    def step(self) -> list[Delta]:
        deltas: list[Delta] = self._call("step")
        return deltas

    def busy(self) -> bool:
        return bool(self._call("busy"))

    def close(self) -> None:
        self._call("close")
        super().close()

    def run(self, *requests: Generation) -> dict[int, tuple[list[int], str | None]]:
        """Add, step until all have ended, and give each one's tokens and finish."""
        for request in requests:
            self.add(request)
        return fold(self.steps())

    def steps(self) -> Iterable[Delta]:
        for _ in range(_STEPS):
            if not self.busy():
                return
            yield from self.step()
        raise AssertionError("the engine does not come to an end")

    def _call(self, name: str, *args: Any) -> Any:
        return self.ask(_method, name, *args)


def fold(deltas: Iterable[Delta]) -> dict[int, tuple[list[int], str | None]]:
    """Tokens and finish of each sequence; asserts that nothing follows an end."""
    result: dict[int, tuple[list[int], str | None]] = {}
    for delta in deltas:
        tokens, finish = result.get(delta.id, ([], None))
        assert finish is None, "a delta after the end"
        assert (delta.error != "") == (delta.finish == "error")
        result[delta.id] = tokens + delta.tokens, delta.finish
    return result


class Ids:
    """Request ids, each given once."""

    def __init__(self) -> None:
        self._last = 0

    def __call__(self) -> int:
        self._last += 1
        return self._last


next_id = Ids()


def generation(prompt: list[int], max_tokens: int = 16, **sampling: Any) -> Generation:
    """A request with an id of its own; greedy unless told."""
    return Generation(next_id(), prompt, Sampling(max_tokens, **{"temperature": 0.0, **sampling}))


def _open(config: EngineConfig) -> Any:
    from openllm.engines.open import open_engine

    return open_engine(config, lambda _: None)


def _method(engine: Any, name: str, *args: Any) -> Any:
    return getattr(engine, name)(*args)


def _serve(pipe: Connection, make: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        served = make(*args)
    except Exception as error:
        pipe.send(error)
        os._exit(0)
    pipe.send(None)
    while (message := pipe.recv()) is not None:
        function, parameters = message
        try:
            value = function(served, *parameters)
        except Exception as error:
            value = error
        pipe.send(value)
    os._exit(0)  # vLLM's threads take seconds to say goodbye
