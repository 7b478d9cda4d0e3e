"""Starts a runner's process. Imports next to nothing: on the way of `openllm start` it runs before all else."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Protocol

from openllm.parent import spawning

if TYPE_CHECKING:
    from openllm.engines.base import EngineConfig

_SOCKET_BUFFER_BYTES = 4 << 20
_STDERR = 2  # an engine's chatter is talk; stdout is for data


class Child(Protocol):
    """A runner's process: ``subprocess.Popen``, or what stands for it."""

    @property
    def pid(self) -> int | None: ...
    def poll(self) -> int | None: ...
    def send_signal(self, how: int, /) -> None: ...
    def kill(self) -> None: ...


class Spawned:
    """A runner that imports its engine, and our end of the socket to it. ``loading``: was it told what to load?"""

    def __init__(self, child: Child, sock: socket.socket) -> None:
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

    def discard(self) -> None:
        """End it at once; nobody has come to talk to it."""
        self.child.kill()
        self.sock.close()


class Spawner(Protocol):
    """Starts runners."""

    def prepare(self, engine: str, *, threads: int | None = None) -> None:
        """Begin what will make the first spawn short, if anything does; returns at once."""

    def spawn(self, engine: str, *, threads: int | None = None) -> Spawned:
        """Start a runner that expects ``engine``; needs no event loop. Raises ``OSError`` if no process can be had."""

    def close(self) -> None:
        """End what was kept for later runners; those that run go on."""


class PlainSpawner:
    """A new process for each runner, which imports its engine."""

    def prepare(self, engine: str, *, threads: int | None = None) -> None:
        """See ``Spawner``."""

    def spawn(self, engine: str, *, threads: int | None = None) -> Spawned:
        """See ``Spawner``."""
        return spawn(engine, threads=threads)

    def close(self) -> None:
        """See ``Spawner``."""


def spawn(engine: str, *, threads: int | None = None) -> Spawned:
    """Start a runner that expects ``engine``; needs no event loop. Raises ``OSError`` if no process can be had."""
    ours, theirs = socket_pair()
    try:
        child = start_module("openllm.runner", theirs, engine, threads)
    except OSError:
        ours.close()
        raise
    return Spawned(child, ours)


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """The front's and the runner's end; the front's does not block."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER_BYTES)
    ours.setblocking(False)
    return ours, theirs


def start_module(
    module: str, theirs: socket.socket, engine: str, threads: int | None, *, apart: bool = False
) -> subprocess.Popen[bytes]:
    """Start a module of ours for ``engine`` that talks on ``theirs``, which is closed here; ``apart`` in a process
    group of its own. Raises ``OSError``."""
    with theirs, spawning():
        return subprocess.Popen(
            [sys.executable, "-m", module, str(theirs.fileno()), str(os.getpid()), engine],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=_STDERR,
            env=_environment(threads),
            process_group=0 if apart else None,
        )


def _environment(threads: int | None) -> dict[str, str]:
    """Thread pools are sized when a library is imported, before the runner could set it.

    NumPy's begins its threads then, and nothing here multiplies matrices with it: they would only make a template
    unfit to be forked.
    """
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    return environment
