"""Operates a server that runs: signals, its log, its place in the list of servers, and its replacement by another."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from openllm.errors import OpenLLMError
from openllm.servers.heir import Heir

if TYPE_CHECKING:
    import uvicorn

    from openllm.api.warmer import Warmer
    from openllm.fleet.keeper import Keeper
    from openllm.servers.operation import Operation

_LOOK_SECONDS = 1.0
_READY_LOOK_SECONDS = 0.02
# How long a connection that is kept alive may bring one more request to the server that is replaced.
_EASE_SECONDS = 5.0
_EASE_LOOK_SECONDS = 0.05
_CLOSE = (b"connection", b"close")


class Attendant:
    """``sock`` is what the server listens on, ``keepers`` are those of its models. To be closed."""

    def __init__(self, operation: Operation, sock: socket.socket, keepers: Sequence[Keeper]) -> None:
        self.replaced = False
        self._operation = operation
        self._tell = operation.tell
        self._sock = sock
        self._keepers = keepers
        self._server: uvicorn.Server | None = None
        self._heir: Heir | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def until_its_turn(self, warmer: Warmer) -> bool:
        """A server that replaces another accepts nothing before it can answer as well: the other one does so till then.
        Returns at once for any other. A model that is asleep can answer. False if the engine cannot be started: then
        the other one is to go on."""
        if self._operation.bequest is None:
            return True
        while not all(each.available or each.fatal.done() for each in self._keepers):  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(_READY_LOOK_SECONDS)
        await warmer.first()
        return not any(each.fatal.done() for each in self._keepers)

    def listens(self, server: uvicorn.Server) -> None:
        """Begin to attend a server that accepts requests."""
        self._server = server
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR2, self._on_replace)
        if _has_terminal():
            # The terminal was closed: nobody is left to stop what was started in it.
            loop.add_signal_handler(signal.SIGHUP, lambda: setattr(server, "should_exit", True))
        else:
            loop.add_signal_handler(signal.SIGHUP, self._on_reload)
        self._operation.listens()
        self._begin(self._look_after_log())
        self._begin(self._be_alive())

    async def ease_out(self) -> None:
        """Before a replaced server closes its connections: accept no others, and answer what comes on those that are
        kept alive, each for the last time. Nobody's request meets a closed door."""
        server = self._server
        if not self.replaced or server is None:
            self._operation.manager.stopping()
            return
        for listener in server.servers:
            listener.close()
        state = server.server_state
        state.default_headers = [*state.default_headers, _CLOSE]
        ends = asyncio.get_running_loop().time() + _EASE_SECONDS
        while _idle(server) and asyncio.get_running_loop().time() < ends and not server.force_exit:  # noqa: ASYNC110
            await asyncio.sleep(_EASE_LOOK_SECONDS)

    def close(self) -> None:
        """Let go of everything, and of the new server if it has not taken over."""
        for task in self._tasks:
            task.cancel()
        if self._heir is not None and not self.replaced:
            self._heir.kill()
        self._operation.leave()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _on_replace(self) -> None:
        if self._heir is not None:
            self._tell("a restart is under way already")
        elif self._server is None or self._server.should_exit:
            self._tell("the server is stopping: it is not restarted")
        elif _has_terminal() or os.getpid() == 1:
            self._refuse(
                "its end would end the terminal's job or the container; start the server with --detach"
            )
        else:
            self._begin(self._replace())

    async def _replace(self) -> None:
        """Start another server on the same socket, and end this one when it has taken over."""
        self._tell("restarting: the new server loads, this one answers until then")
        try:
            self._heir = Heir(self._sock, self._operation.heirs_variable)
            why = await self._heir.word()
        except OSError as error:
            why = f"no process can be had: {error.strerror}"
        if why is not None:
            if self._heir is not None:
                await asyncio.to_thread(self._heir.kill)
            self._heir = None
            self._refuse(why)
            return
        assert self._heir is not None
        assert self._server is not None
        self.replaced = True
        self._operation.manager.main_process(self._heir.pid)
        self._operation.leave()
        self._tell(f"process {self._heir.pid} has taken over; ending")
        self._server.should_exit = True

    def _refuse(self, why: str) -> None:
        self._tell(f"not restarted: {why}")
        entry = self._operation.entry
        if entry is not None:
            with contextlib.suppress(OSError):
                entry.update(refusals=entry.record.refusals + 1, refusal=why)

    def _on_reload(self) -> None:
        self._begin(self._reload())

    async def _reload(self) -> None:
        """Each part by itself: what is wrong with one keeps none from the others."""
        self._reopen_log()
        for reload in self._operation.reloads:
            try:
                news = await asyncio.to_thread(reload)
            except OpenLLMError as error:
                self._tell(f"reload: nothing changed: {error.message}")
            else:
                self._tell(f"reload: {news}")

    def _reopen_log(self) -> None:
        log = self._operation.log
        if log is None:
            return
        try:
            if log.reopen():
                self._tell(f"reload: the log goes on in a new {log.path}")
        except OpenLLMError as error:
            self._tell(f"reload: the log stays where it is: {error.message}")

    async def _look_after_log(self) -> None:
        log = self._operation.log
        while log is not None:
            await asyncio.sleep(_LOOK_SECONDS)
            if log.is_long():
                try:
                    await asyncio.to_thread(log.put_aside)
                except OSError as error:
                    self._tell(f"the log is not cut any more: {log.path}: {error.strerror}")
                    return

    async def _be_alive(self) -> None:
        manager = self._operation.manager
        while manager.watchdog is not None:
            manager.alive()
            await asyncio.sleep(manager.watchdog / 2)


def _idle(server: uvicorn.Server) -> bool:
    """Is there a connection without a request?"""
    return any(
        getattr(each, "cycle", None) is None or each.cycle.response_complete  # type: ignore[union-attr]
        for each in server.server_state.connections
    )


def _has_terminal() -> bool:
    return sys.stderr.isatty()
