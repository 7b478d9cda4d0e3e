"""Options of how a server is operated: its name, its log, and whether it runs in the background."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from openllm.cli.options import parse_size, takes
from openllm.cli.say import note, stamped
from openllm.cli.settings import INHERITED, state_folder, take_inherited
from openllm.errors import UsageError

if TYPE_CHECKING:
    from openllm.servers.background import Child
    from openllm.servers.bequest import Bequest
    from openllm.servers.log_file import LogFile
    from openllm.servers.operation import Operation

_LOG_SIZE = 10 * 1024**2
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")


class OperateChoices(NamedTuple):
    """What a caller chooses of ``servers.operation.Operation``. A field's annotation is its option."""

    name: Annotated[
        str | None,
        typer.Option(help="What `ps`, `stop`, `logs` and `restart` call this server; by default its model."),
    ] = None
    detach: Annotated[
        bool,
        typer.Option(
            "--detach", "-d", help="Serve in the background; return when it listens, or with its error."
        ),
    ] = False
    log_file: Annotated[
        Path | None,
        typer.Option(help="Write there instead of to stderr; with --detach in the user's state folder."),
    ] = None
    log_size: Annotated[
        int | None,
        typer.Option(
            parser=parse_size,
            metavar="SIZE",
            help="Put the log file aside when it is longer; 10MiB by default, 0 never.",
        ),
    ] = None
    warm: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Have the engine read these prompts after each start: a system message, or .jsonl.",
        ),
    ] = None

    def begin(self, listen: Callable[[], socket.socket], scheme: str) -> Begun:
        """The listening socket, got from ``listen`` unless this process replaces another server, and the rest.
        ``scheme`` is http or https. Imports next to nothing.

        With --detach the parent waits and exits here. Raises ``UsageError``, ``MachineError`` and as ``listen``.
        """
        if self.name is not None and not _NAME.fullmatch(self.name):
            raise UsageError(
                f"--name {self.name!r} is no name.",
                hint="Use letters, digits and . _ : - only.",
                param="name",
            )
        prompts = [] if self.warm is None else _prompts(self.warm)
        bequest, child = _bequest(), None
        sock = listen() if bequest is None else bequest.socket()
        try:
            log = self._log(sock)
            if log is not None:
                os.close(log.open())  # what is wrong with it is for the terminal
                if self.detach and bequest is None:
                    child = _detach(sock, log, scheme)
                log.take_over()
        except BaseException:
            sock.close()
            raise
        return Begun(sock, self.name, log, child, bequest, prompts)

    def _log(self, sock: socket.socket) -> LogFile | None:
        if self.log_file is None and not self.detach:
            if self.log_size is not None:
                raise UsageError(
                    "--log-size needs a log file.", hint="Give --log-file or --detach.", param="log_size"
                )
            return None
        from openllm.servers.log_file import LogFile

        path = self.log_file or log_folder() / "{}-{}.log".format(*sock.getsockname()[:2])
        return LogFile(path.expanduser().absolute(), _LOG_SIZE if self.log_size is None else self.log_size)


def log_folder() -> Path:
    """Where the logs of detached servers are."""
    return state_folder() / "logs"


def servers_folder() -> Path:
    """Where the servers of this user are listed."""
    return state_folder() / "servers"


def _prompts(path: Path) -> list[dict[str, Any]]:
    from openllm.cli.warm import read_prompts

    return read_prompts(path)


def _bequest() -> Bequest | None:
    """What the server that this one replaces has left to it."""
    inherited = take_inherited()
    if inherited is None:
        return None
    from openllm.servers.bequest import Bequest

    return Bequest.parse(inherited)


def _detach(sock: socket.socket, log: LogFile, scheme: str) -> Child:
    """Go on in a child, in the background. The parent tells what becomes of it, and exits."""
    from openllm.fleet.port import address
    from openllm.servers.background import Child, fork

    begins = log.size()
    twin = fork()
    if isinstance(twin, Child):
        return twin
    url = address(sock, scheme)
    status = twin.wait()
    if status is None:
        note(f"process {twin.pid} serves; its log is {log.path}")
        print(url)
        raise typer.Exit(0)
    sys.stderr.write(log.since(begins))
    raise typer.Exit(status if status > 0 else 1)


class Begun(NamedTuple):
    """A server that listens, before it knows its model."""

    sock: socket.socket
    name: str | None
    log: LogFile | None
    child: Child | None
    bequest: Bequest | None
    prompts: list[dict[str, Any]]

    @property
    def tell(self) -> Callable[[str], None]:
        """For news: a log file's lines have their time."""
        return note if self.log is None else stamped

    def operation(self, names: tuple[str, ...], url: str, drain_seconds: float) -> Operation:
        """For a server of models of these names, which is at ``url``."""
        from openllm.servers.operation import Introduction, Operation
        from openllm.servers.record import Register
        from openllm.servers.service_manager import ServiceManager

        return Operation(
            Introduction(name=self.name or names[0], models=names, address=url, drain_seconds=drain_seconds),
            Register(servers_folder()),
            ServiceManager.from_environment(os.environ),
            self.tell,
            heirs_variable=INHERITED,
            log=self.log,
            child=self.child,
            bequest=self.bequest,
            prompts=self.prompts,
        )


takes_operate_choices = takes(OperateChoices, "operate")
