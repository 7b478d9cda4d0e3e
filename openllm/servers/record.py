"""Which servers of this user run on this machine: a small file for each, that its server holds a lock on.

The lock tells whether a server lives: the kernel gives it back however the process ends, and a process that has the
same number later does not have it. A file that nobody holds is left over, and is removed by whoever finds it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from pathlib import Path
from typing import IO, Any

import msgspec


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One server. ``address`` is its URL, ``started`` in seconds since 1970, ``log`` the file that it writes to, if
    it does. ``replaces`` is the process whose socket it took over. ``refusals`` counts the restarts that came to
    nothing, ``refusal`` says why the last one did."""

    name: str
    models: tuple[str, ...]
    address: str
    pid: int
    started: float
    drain_seconds: float
    log: str | None = None
    replaces: int | None = None
    refusals: int = 0
    refusal: str | None = None

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])


class Entry:
    """The record of this process. It stands in the folder until ``leave`` or the end of the process."""

    def __init__(self, path: Path, record: Record) -> None:
        """Write it. Raises ``OSError``."""
        self.record = record
        self._path = path
        # All of them stay open: who reads a file while it is replaced must not find it without its lock.
        self._held: list[IO[bytes]] = []
        self._write()

    def update(self, **changes: Any) -> None:
        """Change fields; others see the old record or the new one. Raises ``OSError``."""
        self.record = msgspec.structs.replace(self.record, **changes)
        self._write()

    def leave(self) -> None:
        """Take the record out; once is enough."""
        self._path.unlink(missing_ok=True)
        for file in self._held:
            file.close()
        self._held.clear()

    def _write(self) -> None:
        fresh = self._path.with_suffix(".new")
        with contextlib.suppress(OSError):
            fresh.unlink()
        file = os.fdopen(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(msgspec.json.encode(self.record))
            file.flush()
            fresh.replace(self._path)
        except OSError:
            file.close()
            raise
        self._held.append(file)


class Register:
    """The records in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def enter(self, record: Record) -> Entry:
        """List this process. Raises ``OSError``."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Entry(self.folder / f"{record.pid}-{secrets.token_hex(4)}.json", record)

    def all(self) -> list[Record]:
        """Those that run, the oldest first. Removes what others have left."""
        found = [_read(path) for path in self.folder.glob("*.json")]
        return sorted((record for record in found if record is not None), key=lambda record: record.started)

    def of(self, pid: int) -> Record | None:
        """The record of a process, if it is listed."""
        return next((record for record in self.all() if record.pid == pid), None)


def _read(path: Path) -> Record | None:
    """The record of a server that runs."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            # One of another version, whose fields are not these, cannot be shown.
            with contextlib.suppress(msgspec.DecodeError):
                return msgspec.json.decode(file.read(), type=Record)
            return None
        path.unlink(missing_ok=True)
    return None
