"""The HTTP server: uvicorn, with our signals, our words and our way to end."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Callable, Iterable
from types import FrameType

import uvicorn

from openllm.api.app import create_app
from openllm.api.archive import Archive
from openllm.api.attendant import Attendant
from openllm.api.http_protocol import HttpProtocol
from openllm.api.options import FrontOptions
from openllm.api.recorder import Observe
from openllm.api.roster import Models
from openllm.api.side_lane import lend_quickly
from openllm.fleet.port import BACKLOG

# Behind the keep-alive of the usual load balancers (60 s), so that it is they who close.
_KEEP_ALIVE_SECONDS = 75
# Hardly any of what a request leaves behind is cyclic; Python's 700 would collect several times a request.
_COLLECT_AFTER = (20_000, 50, 100)


class HttpServer(uvicorn.Server):
    """Serves ``models`` as ``options`` say. ``attendant`` is told when it listens and before it ends."""

    def __init__(
        self,
        models: Models,
        archive: Archive,
        options: FrontOptions,
        observers: Iterable[Observe],
        attendant: Attendant,
        tell: Callable[[str], None],
    ) -> None:
        tls = options.tls
        config = uvicorn.Config(
            create_app(models, archive, options, observers),
            loop="none",
            http=HttpProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            backlog=BACKLOG,
            ssl_certfile=None if tls is None else tls.certfile,
            ssl_keyfile=None if tls is None else tls.keyfile,
            ssl_keyfile_password=None if tls is None else tls.password,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            # The drain ends the answers with an error event first; this is for what even then does not end.
            timeout_graceful_shutdown=int(options.drain_seconds) + 2,
        )
        super().__init__(config)
        self._models = models
        self._archive = archive
        self._attendant = attendant
        self._drain_seconds = options.drain_seconds
        self._tell = tell

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What was imported lives to the end: keep it out of every later collection.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_COLLECT_AFTER)
        gc.enable()
        lend_quickly()
        self._attendant.listens(self)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        models = self._models
        models.draining = not self._attendant.replaced
        await self._archive.close()  # first: its answers are made again, what clients wait for is not
        await self._attendant.ease_out()
        models.draining = True
        desks = [service.keeper.desk for service in models]
        open_sequences = sum(map(len, desks))
        if open_sequences and not self.force_exit:
            self._tell(
                f"draining: {open_sequences} sequences, at most {self._drain_seconds:.0f} s; again to stop now"
            )
        for desk in desks:
            asyncio.get_running_loop().call_later(
                self._drain_seconds, desk.fail_all, "The server is stopping."
            )
        await super().shutdown(sockets)

    def end(self) -> None:
        """Drain and stop, as on a signal."""
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True
