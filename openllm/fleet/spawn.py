"""Starts a runner's process. Imports next to nothing: on the way of `openllm start` it runs before all else."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openllm.engines.base import EngineConfig

_SOCKET_BUFFER_BYTES = 4 << 20
_STDERR = 2  # an engine's chatter is talk; stdout is for data


class Spawned:
    """A runner that imports its engine, and our end of the socket to it. ``loading``: was it told what to load?"""

    def __init__(self, child: subprocess.Popen[bytes], sock: socket.socket) -> None:
        self.child = child
        self.sock = sock
        self.loading = False

    def load(self, config: EngineConfig) -> None:
        """Tell it what to load, once, before there is an event loop. That it has ended already is the keeper's
        to find: it reads the end of the socket."""
        from openllm.runner.wire import Load, frame

        self.loading = True
        with contextlib.suppress(OSError):
            self.sock.sendall(frame(Load(config)))


def spawn(engine: str, *, threads: int | None = None) -> Spawned:
    """Start a runner that expects ``engine``; needs no event loop. Raises ``OSError`` if no process can be had."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER_BYTES)
    argv = [sys.executable, "-m", "openllm.runner", str(theirs.fileno()), str(os.getpid()), engine]
    try:
        child = subprocess.Popen(
            argv,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=_STDERR,
            env=_environment(threads),
        )
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    ours.setblocking(False)
    return Spawned(child, ours)


def _environment(threads: int | None) -> dict[str, str]:
    """Thread pools are sized when a library is imported, before the runner could set it."""
    environment = dict(os.environ)
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    return environment
