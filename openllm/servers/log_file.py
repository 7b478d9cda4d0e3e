"""A log file: this process and its children write to it as to stderr, and it is kept within bounds.

It is cut by copying it and truncating it in place, because the engine's process writes to it too: were it renamed,
that one would go on writing to the old file.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from pathlib import Path

from openllm.errors import MachineError

_STDOUT, _STDERR = 1, 2
KEPT = 4  # older files: FILE.1 is the youngest


class LogFile:
    """``limit`` in bytes: a file that is longer is put aside; 0 lets it grow."""

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self._limit = limit

    def size(self) -> int:
        """Bytes; 0 if there is no file."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def since(self, place: int) -> str:
        """What was written behind byte ``place``."""
        with self.path.open("rb") as file:
            file.seek(place)
            return file.read().decode(errors="replace")

    def take_over(self) -> None:
        """Let stdout and stderr of this process, and of children from now on, go to the file.

        Raises ``MachineError`` if it cannot be written.
        """
        fd = self.open()
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(fd, _STDOUT)
        os.dup2(fd, _STDERR)
        os.close(fd)

    def open(self) -> int:
        """Open it, made if need be; to be closed. Raises ``MachineError``."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise MachineError(
                f"The log file {self.path} cannot be written: {error.strerror}.",
                hint="Choose another --log-file.",
                param="log_file",
            ) from error

    def reopen(self) -> bool:
        """If the file was moved or deleted, go on in a new one of its name; did it? Raises ``MachineError``."""
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(self.path), os.fstat(_STDERR)):
                return False
        self.take_over()
        return True

    def is_long(self) -> bool:
        """Is it longer than it may be?"""
        return 0 < self._limit < os.fstat(_STDERR).st_size

    def put_aside(self) -> None:
        """Copy what is in the file to FILE.1 and empty it; blocks for a copy. Raises ``OSError``, and then all files
        are as they were."""
        fresh = self._older(0)
        with self.path.open("rb") as now, fresh.open("wb") as copy:
            try:
                os.chmod(copy.fileno(), 0o600)
                shutil.copyfileobj(now, copy)
                copy.flush()
            except OSError:
                fresh.unlink()
                raise
            self._make_place()
            fresh.replace(self._older(1))
            # What came in the meantime, so that hardly anything can come between the last look and the cut.
            while rest := now.read():
                copy.write(rest)
            copy.flush()
            os.truncate(self.path, 0)

    def _make_place(self) -> None:
        """Of older files each becomes the next one; the oldest goes."""
        for number in range(KEPT, 1, -1):
            with contextlib.suppress(FileNotFoundError):
                self._older(number - 1).replace(self._older(number))

    def _older(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")
