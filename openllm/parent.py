"""What the kernel knows of this process's family: it ends with its parent, not before; takes in orphans; has a name."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_POLITE = (signal.SIGINT, signal.SIGTERM)  # which ask a whole group: ctrl-C, a supervisor


def die_with_parent(parent: int) -> None:
    """Ask the kernel for SIGKILL when the parent ends (Linux), and exit now if it has ended already.

    Elsewhere the end of file on the socket to the front does the same, after the step that is running.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


@contextmanager
def spawning() -> Iterator[None]:
    """A process that is started in the body gets no polite signal before ``leave_ending_to_parent``; nor does this
    thread before the body ends."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _POLITE)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_ending_to_parent() -> None:
    """Ignore signals that ask this process to end, for good: it is for its parent to say when."""
    for polite in _POLITE:
        signal.signal(polite, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _POLITE)


def take_in_orphans(really: bool) -> None:
    """Become the parent of descendants that lose theirs, or leave them to the system's first process (Linux)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, int(really))


def name_process(name: str) -> None:
    """What ``ps`` and ``top`` call this process: up to 15 characters (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
