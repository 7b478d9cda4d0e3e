"""How one server is operated: how it is listed, where its log goes, and whom it tells that it listens."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from openllm.servers.background import Child
from openllm.servers.bequest import Bequest
from openllm.servers.log_file import LogFile
from openllm.servers.record import Entry, Record, Register
from openllm.servers.service_manager import ServiceManager


class Introduction(msgspec.Struct, frozen=True, kw_only=True):
    """What others are told of a server; see ``Record``."""

    name: str
    models: tuple[str, ...]
    address: str
    drain_seconds: float


class Operation:
    """One server's. ``bequest`` is what it was given by the server that it replaces, ``child`` its end to the process
    that put it into the background. ``reloads`` are called in a thread on SIGHUP; each says what changed, or raises
    an ``OpenLLMError`` and leaves all as it was. In ``heirs_variable`` of its environment a server that replaces it
    finds what it is given. ``prompts`` are bodies of chat requests that each new engine reads."""

    def __init__(
        self,
        introduction: Introduction,
        register: Register,
        manager: ServiceManager,
        tell: Callable[[str], None],
        *,
        heirs_variable: str,
        log: LogFile | None = None,
        child: Child | None = None,
        bequest: Bequest | None = None,
        prompts: Sequence[dict[str, Any]] = (),
    ) -> None:
        self.manager = manager
        self.log = log
        self.tell = tell
        self.bequest = bequest
        self.prompts = prompts
        self.reloads: list[Callable[[], str]] = []
        self.entry: Entry | None = None
        self.heirs_variable = heirs_variable
        self._introduction = introduction
        self._register = register
        self._child = child

    def listens(self) -> None:
        """Requests are accepted from now on: say so to whom it concerns."""
        self._enter(self._introduction)
        if self.bequest is not None:
            self.bequest.take_over()
        self.manager.ready()
        if self._child is not None:
            self._child.listens()

    def leave(self) -> None:
        """Be listed no longer."""
        if self.entry is not None:
            self.entry.leave()
            self.entry = None

    def _enter(self, introduction: Introduction) -> None:
        record = Record(
            **msgspec.structs.asdict(introduction),
            pid=os.getpid(),
            started=time.time(),
            log=None if self.log is None else str(self.log.path),
            replaces=None if self.bequest is None else self.bequest.predecessor,
        )
        try:
            self.entry = self._register.enter(record)
        except OSError as error:
            self.tell(f"`openllm ps` will not show this server: {self._register.folder}: {error.strerror}")
