"""Drives the real pulling child process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import IO

from openllm.weights.pull_messages import Event, Progress, PullRequest, decode_event, encode

COMMAND = [sys.executable, "-m", "openllm.weights.pull"]


class Puller:
    """A child that has been given its request. As a context manager it is gone afterwards."""

    def __init__(self, request: PullRequest) -> None:
        self.process = subprocess.Popen(
            COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._stdin = _open(self.process.stdin)
        self._stdin.write(encode(request))
        self._stdin.flush()
        self.events: list[Event] = []

    def next_event(self) -> Event | None:
        """The next event, None at the end."""
        line = _open(self.process.stdout).readline()
        if not line:
            return None
        self.events.append(decode_event(line))
        return self.events[-1]

    def until(self, wanted: Callable[[Event], bool]) -> Event:
        """Read up to the first event that is ``wanted``."""
        while (event := self.next_event()) is not None:
            if wanted(event):
                return event
        raise AssertionError(f"the child ended: {self.events} {_open(self.process.stderr).read().decode()}")

    def until_bytes(self, count: int) -> None:
        self.until(lambda event: isinstance(event, Progress) and event.done >= count)

    def last(self) -> Event:
        """The last event, and the child's end."""
        while self.next_event() is not None:
            pass
        self.process.wait(20)
        return self.events[-1]

    def hang_up(self) -> int:
        """Close its stdin; the exit code."""
        self._stdin.close()
        return self.process.wait(20)

    def __enter__(self) -> Puller:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(20)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            with suppress(BrokenPipeError):
                _open(stream).close()


def _open(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream
