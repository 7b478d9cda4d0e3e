"""A server that is replaced without a pause: the new process inherits the listening socket, and says through a pipe
when it takes over.

The kernel's queue of connections belongs to the socket, which both processes have: one that came while neither
was looking is accepted by the new one.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys

from openllm.servers.bequest import TAKES_OVER, Bequest


class Heir:
    """The new process, as the old one sees it."""

    def __init__(self, sock: socket.socket, variable: str) -> None:
        """Start it with the command line of this process; ``variable`` of its environment says what it was given.
        Raises ``OSError``."""
        reading, writing = os.pipe()
        given = Bequest(sock.fileno(), writing, os.getpid())
        # The watchdog is whosever process is the service: this one's number is not the new one's.
        environ = {name: value for name, value in os.environ.items() if name != "WATCHDOG_PID"}
        try:
            self._child = subprocess.Popen(
                _command_line(),
                pass_fds=(sock.fileno(), writing),
                stdin=subprocess.DEVNULL,
                env={**environ, variable: given.text()},
            )
        except OSError:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self._pipe = reading

    @property
    def pid(self) -> int:
        return self._child.pid

    async def word(self) -> str | None:
        """None when it takes over, else why it does not."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(self._pipe, "rb")
        )
        try:
            said = await reader.read()
        finally:
            transport.close()
        if said == TAKES_OVER:
            return None
        status = await asyncio.to_thread(self._child.wait)
        return f"the new server ended with status {status}; its log says more"

    def kill(self) -> None:
        """End it, if it still runs; blocks shortly."""
        self._child.kill()
        self._child.wait()


def _command_line() -> list[str]:
    """How this process was started: the interpreter by its path, for its name may mean another by now."""
    return [sys.executable, *sys.orig_argv[1:]]
