"""How a script of the tools' environment talks: a job on stdin, events on stdout, the tools' own talk on stderr."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

_KILL_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_INTERRUPTED = 130


class Talk:
    """Writes events. The file that they go to is stdout as it was: what tools print goes to stderr."""

    def __init__(self) -> None:
        self._file = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        self._lock = threading.Lock()

    def stage(self, what: str) -> None:
        self._send(stage=what)

    def progress(self, done: int, total: int) -> None:
        self._send(done=done, total=total)

    def done(self, **facts: object) -> None:
        self._send(facts=facts)

    def failed(self, error: BaseException) -> None:
        lines = [line for line in str(error).splitlines() if line.strip()]
        self._send(failed=f"{type(error).__name__}: {lines[0][:400] if lines else 'no reason given'}")

    def _send(self, **event: object) -> None:
        with self._lock:
            self._file.write(json.dumps(event) + "\n")


def run_job(main: Callable[[dict[str, Any], Talk], None]) -> int:
    """Read a job and run it; the exit code. The process ends with the one that started it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_KILL_WITH_PARENT, signal.SIGKILL)
    talk = Talk()
    try:
        main(json.loads(sys.stdin.read()), talk)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BaseException as error:
        traceback.print_exc()
        talk.failed(error)
        return 1
    return 0
