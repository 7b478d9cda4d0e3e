"""``openllm stop``: end running servers."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, Annotated

import typer

from openllm.cli.say import note
from openllm.cli.servers import ServerName, choose, register
from openllm.errors import MachineError, UsageError

if TYPE_CHECKING:
    from openllm.servers.record import Record, Register

_LOOK_SECONDS = 0.05
_SPARE_SECONDS = 15.0  # behind the time that open answers have
_AT_ONCE_SECONDS = 10.0


def stop(
    server: ServerName = None,
    every: Annotated[bool, typer.Option("--all", help="Stop all of them.")] = False,
    now: Annotated[bool, typer.Option("--now", help="Do not wait for open answers.")] = False,
) -> None:
    """Stop a server of this user: open answers may end first. Returns when it is gone."""
    if every and server is not None:
        raise UsageError("A server and --all are given.", hint="Leave one of them out.")
    servers = register()
    running = servers.all()
    if every and not running:
        note("no server runs")
    chosen = running if every else [choose(server, running)]
    for record in chosen:
        _signal(record)
    for record in chosen:
        _see_it_end(servers, record, now)
        _until_gone(record.pid)
        note(f"{record.name} on port {record.port}: stopped")


def _see_it_end(servers: Register, record: Record, now: bool) -> None:
    begun = time.monotonic()
    longest = _AT_ONCE_SECONDS if now else record.drain_seconds + _SPARE_SECONDS
    told = False
    while servers.of(record.pid) is not None:
        waited = time.monotonic() - begun
        if waited > longest:
            if not now:
                raise MachineError(
                    f"{record.name} (process {record.pid}) still runs after {waited:.0f} s.",
                    hint=f"End it with: openllm stop {record.port} --now",
                )
            with contextlib.suppress(ProcessLookupError):
                os.kill(record.pid, signal.SIGKILL)
        elif now:
            _signal(record)  # a second signal means at once
        elif waited > 1 and not told:
            told = True
            note(f"{record.name}: open answers have {record.drain_seconds:.0f} s to end; --now cuts them off")
        time.sleep(_LOOK_SECONDS)


def _until_gone(pid: int) -> None:
    """The record goes shortly before the process; a zombie is its parent's business."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        ends = time.monotonic() + _AT_ONCE_SECONDS
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < ends:
            time.sleep(_LOOK_SECONDS)


def _signal(record: Record) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(record.pid, signal.SIGTERM)
