"""What is done to a running server, from outside."""

from __future__ import annotations

import asyncio
import ctypes
import os
import random
import signal
import sys
from collections.abc import Callable

import psutil

from tests.serving import Served

_PIDFD_GETFD = 438  # the same number on every architecture
Fault = Callable[[Served], None]


def kill(server: Served) -> None:
    """As the kernel does when memory runs out."""
    server.runner().send_signal(signal.SIGKILL)


def kill_template(server: Served) -> None:
    """What later runners are to be forked from is gone."""
    server.template().send_signal(signal.SIGKILL)


def hang(server: Served) -> None:
    """It does nothing more."""
    server.runner().send_signal(signal.SIGSTOP)


def babble(server: Served) -> None:
    """The front reads garbage on the runner's line."""
    runner = server.runner().pid
    fd = _take_fd(runner, _line(runner))
    try:
        os.write(fd, os.urandom(64))
    finally:
        os.close(fd)


def can_babble() -> bool:
    """Does this system let us write into another process's socket?"""
    if sys.platform != "linux":
        return False
    reading, writing = os.pipe()
    try:
        os.close(_take_fd(os.getpid(), reading))
    except OSError:
        return False
    finally:
        os.close(reading)
        os.close(writing)
    return True


def _line(pid: int) -> int:
    """The runner's end of the socket to the front: its only socket."""
    folder = f"/proc/{pid}/fd"
    found = [fd for fd in os.listdir(folder) if os.readlink(f"{folder}/{fd}").startswith("socket:")]
    return int(found[0])


def _take_fd(pid: int, fd: int) -> int:
    pidfd = os.pidfd_open(pid)
    try:
        ours = ctypes.CDLL(None, use_errno=True).syscall(_PIDFD_GETFD, pidfd, fd, 0)
    finally:
        os.close(pidfd)
    if ours < 0:
        raise OSError(ctypes.get_errno(), "pidfd_getfd")
    return int(ours)


class Injector:
    """Applies faults one after the other, ``between`` (least, most) seconds apart; a fault meets whatever runner
    there is then, loading or ready.

    Three runners in a row that answer nothing make the server refuse requests, as it should: so after two faults
    without one of ``answers`` between, the next waits for one.
    """

    def __init__(
        self,
        server: Served,
        faults: list[Fault],
        between: tuple[float, float],
        answers: Callable[[], int],
        seed: int = 0,
    ) -> None:
        self._server = server
        self._faults = faults
        self._between = between
        self._answers = answers
        self._chance = random.Random(seed)
        self.done: list[str] = []

    async def run(self) -> None:
        """All of them, once."""
        answered: list[int] = []  # when each fault had been
        for fault in self._faults:
            await asyncio.sleep(self._chance.uniform(*self._between))
            while len(answered) >= 2 and answered[-2] == self._answers():
                await asyncio.sleep(0.05)
            await self._apply(fault)
            await asyncio.sleep(0.1)  # what was on its way has come
            answered.append(self._answers())

    async def _apply(self, fault: Fault) -> None:
        """As soon as there is a runner."""
        while True:
            try:
                await asyncio.to_thread(fault, self._server)
            except (AssertionError, psutil.NoSuchProcess, IndexError, OSError):
                await asyncio.sleep(0.02)  # between two runners
            else:
                self.done.append(fault.__name__)
                return
