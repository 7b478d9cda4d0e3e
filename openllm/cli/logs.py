"""``openllm logs``: what a server writes."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated

import typer

from openllm.cli.operate import log_folder
from openllm.cli.servers import ServerName, choose, register
from openllm.errors import NoSuchServer, UsageError

_LOOK_SECONDS = 0.2
_BLOCK = 64 * 1024


def logs(
    server: ServerName = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 100,
) -> None:
    """Show the log of a server that runs in the background or has a --log-file; by its port also of one that has
    ended."""
    path = _file(server)
    try:
        file = path.open("rb")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", hint="See: openllm ps") from error
    with file:
        _begin_at_line(file, lines)
        for text in _texts(file, path, follow):
            sys.stdout.buffer.write(text)
            sys.stdout.buffer.flush()


def _file(server: str | None) -> Path:
    running = register().all()
    try:
        record = choose(server, running)
    except NoSuchServer:
        ended = _of_ended(server)
        if ended is None:
            raise
        return ended
    if record.log is None:
        raise UsageError(
            f"{record.name} writes to the stderr that it was started with.",
            hint="Start it with --detach or --log-file to read it here; a service's lines are in: journalctl",
        )
    return Path(record.log)


def _of_ended(server: str | None) -> Path | None:
    """The log that was written last of the detached servers that have ended: on that port, if a port is given."""
    found = (
        log_folder().glob("*.log" if server is None else f"*-{int(server)}.log") if _portlike(server) else ()
    )
    newest = sorted(found, key=lambda path: path.stat().st_mtime)
    return newest[-1] if newest else None


def _portlike(server: str | None) -> bool:
    return server is None or (server.isascii() and server.isdigit())


def _begin_at_line(file: IO[bytes], lines: int) -> None:
    """Go to where the last ``lines`` lines begin."""
    whole = place = file.seek(0, os.SEEK_END)
    found = 0
    if not lines:
        return
    while place > 0:
        size = min(_BLOCK, place)
        place -= size
        file.seek(place)
        block = file.read(size)
        end = len(block)
        while (at := block.rfind(b"\n", 0, end)) >= 0:
            # The line feed at the very end of the file ends its last line, and begins none.
            if place + at + 1 < whole:
                found += 1
            if found == lines:
                file.seek(place + at + 1)
                return
            end = at
    file.seek(0)


def _texts(file: IO[bytes], path: Path, follow: bool) -> Iterator[bytes]:
    """What is in the file, and what comes; begins anew when the file was cut or replaced."""
    while True:
        while text := file.read(_BLOCK):
            yield text
        if not follow:
            return
        time.sleep(_LOOK_SECONDS)
        if os.fstat(file.fileno()).st_size < file.tell():
            file.seek(0)
            continue
        with contextlib.suppress(FileNotFoundError):  # moved, and not made anew yet
            if not os.path.samestat(path.stat(), os.fstat(file.fileno())):
                with path.open("rb") as fresh:
                    os.dup2(fresh.fileno(), file.fileno())
                file.seek(0)
