"""``python -m openllm.weights.pull``: fetch weights in a process of its own.

One JSON request on stdin, JSON lines on stdout (see ``pull_messages``), talk on stderr. The front runs it while it
already answers requests, and imports none of what fetching needs. It stops when its stdin ends, so that it never
outlives whoever started it; what it has fetched is kept for the next one. Start it from a thread that lives on:
on Linux the kernel kills it with that thread.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import BinaryIO, NoReturn

import msgspec

from openllm.errors import OpenLLMError
from openllm.parent import die_with_parent
from openllm.weights.fetch import fetch
from openllm.weights.progress import Rate
from openllm.weights.pull_messages import (
    Done,
    Event,
    Failed,
    Note,
    Progress,
    PullRequest,
    decode_request,
    encode,
    failed,
)
from openllm.weights.store import Store

_EVERY_SECONDS = 0.2
_GRACE_SECONDS = 2.0
_STOPPED = 128 + signal.SIGTERM


class JsonReporter:
    """Writes progress as events to ``stream``, a few a second."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._label = ""
        self._rate = Rate(0, 0, time.monotonic)
        self._told_at = 0.0

    def start(self, total: int, label: str, done: int = 0) -> None:
        self._label = label
        self._rate = Rate(total, done, time.monotonic)
        self._tell()

    def advance(self, count: int) -> None:
        self._rate.done += count
        if time.monotonic() - self._told_at >= _EVERY_SECONDS:
            self._tell()

    def finish(self) -> None:
        self._tell()

    def note(self, text: str) -> None:
        self.send(Note(text=text))

    def send(self, event: Event) -> None:
        self._stream.write(encode(event))
        self._stream.flush()

    def _tell(self) -> None:
        self._told_at = time.monotonic()
        rate = self._rate
        self.send(Progress(label=self._label, done=rate.done, total=rate.total, rate=rate.per_second()))


def main() -> int:
    """Run one request; the exit code is that of the error, 0 if there was none."""
    die_with_parent(os.getppid())
    signal.signal(signal.SIGTERM, _stop)
    reporter = JsonReporter(sys.stdout.buffer)
    try:
        request = decode_request(sys.stdin.buffer.readline())
    except msgspec.DecodeError as error:
        reporter.send(Failed(code="usage_error", message=f"This is no pull request: {error}"))
        return 2
    threading.Thread(target=_watch_stdin, daemon=True).start()
    return _run(request, reporter)


def _run(request: PullRequest, reporter: JsonReporter) -> int:
    try:
        weights = fetch(
            request.manifest,
            Store(Path(request.store)),
            reporter=reporter,
            offline=request.offline,
            hub=request.hub,
            fresh=request.fresh,
        )
    except OpenLLMError as error:
        reporter.send(failed(error))
        return error.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as error:
        reporter.send(Failed(code="internal_error", message=f"{type(error).__name__}: {error}"))
        raise
    reporter.send(Done(weights=weights))
    return 0


def _watch_stdin() -> None:
    stdin = sys.stdin.fileno()
    while os.read(stdin, 4096):  # not through sys.stdin: its lock, held at the end, aborts the interpreter
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)  # the main thread may hang on a silent line
    os._exit(_STOPPED)


def _stop(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(_STOPPED)


if __name__ == "__main__":
    sys.exit(main())
