"""One server process tree: started in a session of its own, measured, and always stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import psutil

HOST = "127.0.0.1"
LOG_LINES = 30


@dataclass(frozen=True)
class Usage:
    """What one process has used since it began. ``role``: "front" listens on the port, "engine" is any
    other."""

    role: str
    name: str
    cpu_seconds: float
    peak_bytes: int


class ServerFailedError(Exception):
    """A server did not come up or went away; the message ends with the last lines of its log."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _peak_bytes(process: psutil.Process) -> int:
    """The peak resident set: Linux keeps it, elsewhere the present one must do. Pages shared by a fork count
    in each."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return int(process.memory_info().rss)


def _listens(process: psutil.Process, port: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return any(
            connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
            for connection in process.net_connections(kind="tcp")
        )
    return False


class Server:
    """A context manager around one running server. ``started`` is the ``time.perf_counter`` of the
    command."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], port: int, log: Path) -> None:
        self.port = port
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as out:
            self.started = time.perf_counter()
            self._popen = subprocess.Popen(
                command,
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def check_alive(self) -> None:
        """Raise ``ServerFailedError`` if the server's first process has ended."""
        code = self._popen.poll()
        if code is not None:
            raise self.failure(f"the server ended with exit code {code}")

    def failure(self, what: str) -> ServerFailedError:
        tail = self.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return ServerFailedError("\n".join([what, f"last lines of {self.log.name}:", *tail]))

    def tree(self) -> list[psutil.Process]:
        """The first process, its descendants, and whatever else lives in its session; the first one first."""
        found: dict[int, psutil.Process] = {}
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self._popen.pid)
            for process in (root, *root.children(recursive=True)):
                found[process.pid] = process
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if os.getsid(process.pid) == self._popen.pid:
                    found.setdefault(process.pid, process)
        return list(found.values())

    def usage(self) -> dict[int, Usage]:
        """By process id. A process that ends while being looked at is left out."""
        processes = self.tree()
        front = next((process.pid for process in processes if _listens(process, self.port)), self._popen.pid)
        usages = {}
        for process in processes:
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                usages[process.pid] = Usage(
                    role="front" if process.pid == front else "engine",
                    name=process.name(),
                    cpu_seconds=times.user + times.system,
                    peak_bytes=_peak_bytes(process),
                )
        return usages

    def proportional_bytes(self) -> int:
        """The tree's proportional set size now: shared pages are counted once. 0 where the system can't
        say."""
        total = 0
        for process in self.tree():
            with contextlib.suppress(psutil.Error, AttributeError):
                total += process.memory_full_info().pss
        return total

    def stop(self, grace: float = 15.0) -> None:
        """SIGTERM to the first process, then SIGKILL by id to all that is left of the tree. Blocks."""
        processes = self.tree()
        try:
            with contextlib.suppress(ProcessLookupError):
                self._popen.send_signal(signal.SIGTERM)
            psutil.wait_procs(processes, timeout=grace)
        finally:  # an impatient second ctrl-C must leave nothing behind either
            left = {process.pid: process for process in (*processes, *self.tree()) if process.is_running()}
            for process in left.values():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left.values(), timeout=5)
            self._popen.wait()
