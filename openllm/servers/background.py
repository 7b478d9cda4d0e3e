"""Puts a server into the background: the process forks before it has imported anything, the child serves, and the
parent stays until the child listens or has failed."""

from __future__ import annotations

import os
import signal

_LISTENS = b"listens"


class Parent:
    """The end of the process that waits."""

    def __init__(self, pid: int, pipe: int) -> None:
        self.pid = pid
        self._pipe = pipe

    def wait(self) -> int | None:
        """None when the child listens; its exit status if it ended before. Blocks. ctrl-C ends the child too."""
        try:
            with os.fdopen(self._pipe, "rb") as pipe:
                if pipe.read() == _LISTENS:
                    return None
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        except KeyboardInterrupt:
            os.kill(self.pid, signal.SIGTERM)
            os.waitpid(self.pid, 0)
            raise


class Child:
    """The end of the process that serves."""

    def __init__(self, pipe: int) -> None:
        self._pipe: int | None = pipe

    def listens(self) -> None:
        """Let the parent go."""
        if self._pipe is not None:
            os.write(self._pipe, _LISTENS)
            os.close(self._pipe)
            self._pipe = None


def fork() -> Parent | Child:
    """Two processes from one: the child is in a session of its own and reads nothing. Only for a process without
    threads."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return Parent(pid, reading)
    os.close(reading)
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return Child(writing)
