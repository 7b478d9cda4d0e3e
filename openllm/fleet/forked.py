"""A runner that a template process forks for this one, which becomes its parent."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from typing import ClassVar

from openllm.parent import take_in_orphans

_DEATH_SECONDS = 1.0


class ForkedChild:
    """What ``subprocess.Popen`` is of a plain runner. ``pid`` is None until the runner has said it; see ``Born``.

    From the request for a fork until then this process takes in orphans, as the runner comes to be one; no longer,
    so that what a dead runner leaves behind is not ours to wait for.
    """

    _awaited = 0
    _living: ClassVar[dict[int, ForkedChild]] = {}

    def __init__(self, template: subprocess.Popen[bytes]) -> None:
        self.pid: int | None = None
        self._template = template
        self._status: int | None = None
        self._await(1)

    @property
    def at_work(self) -> int:
        """The template's process id until the runner's is known."""
        return self._template.pid if self.pid is None else self.pid

    def born(self, pid: int) -> None:
        """The runner lives."""
        if self.pid is None and self._status is None:
            self.pid = pid
            ForkedChild._living[pid] = self
            self._await(-1)

    def poll(self) -> int | None:
        """The exit status (negative: the signal), or None while it runs."""
        if self._status is not None or self.pid is None:
            return self._status
        if self.pid == self._template.pid:  # a template that could not fork became the runner
            self._status = self._template.poll()
        else:
            with contextlib.suppress(InterruptedError):
                self._status = self._waited()
        if self._status is not None:
            ForkedChild._living.pop(self.pid, None)
        return self._status

    def send_signal(self, how: int) -> None:
        """Send a signal if the process still runs. One that is not born yet never will be, whatever the signal: its
        socket closes, and it ends when it finds that. Its template may be what hangs, so that is killed."""
        if self.pid is not None:
            if self.poll() is None:
                os.kill(self.pid, how)
        elif self._status is None:
            self._status = self._template.poll() or -signal.SIGKILL
            self._template.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # so that it is not asked for the next
                self._template.wait(_DEATH_SECONDS)
            self._await(-1)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _waited(self) -> int | None:
        assert self.pid is not None
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            return -signal.SIGKILL  # someone else has waited for it; how it ended is not known
        return os.waitstatus_to_exitcode(status) if pid else None

    @classmethod
    def reap_group(cls, group: int) -> bool:
        """Wait for what has ended of the process group that a template leads, or led: runners, and what it left half
        made and nobody was told of by its id. True once there is no more of it."""
        while True:
            try:
                pid, status = os.waitpid(-group, os.WNOHANG)
            except ChildProcessError:
                return True
            if not pid:
                return False
            if (runner := cls._living.pop(pid, None)) is not None:
                runner._status = os.waitstatus_to_exitcode(status)

    @classmethod
    def _await(cls, more: int) -> None:
        ForkedChild._awaited += more
        take_in_orphans(ForkedChild._awaited > 0)
