"""Compiles guides beside the engine's steps, so that none of them breaks or delays a step.

GenAI compiles a guide inside the step that a sequence begins in: all other sequences wait for it, and if it
cannot be compiled the step raises and is lost. So each new guide is first tried in a child process, which may be
killed, and then compiled in a thread of this one for the tokenizer that the engine's pipeline uses: the pipeline
finds it there.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import psutil

from openllm.engines.base import Guide
from openllm.engines.guides import wrong
from openllm.engines.openvino_guide import READY, Trial
from openllm.errors import OpenLLMError, RunnerFailed

MOST_CPU_SECONDS = 2.0  # for one guide
_MOST_SECONDS = 20.0
_POLL_SECONDS = 0.05

Verdict = tuple[Guide, OpenLLMError | None]


class GuideCompiler:
    """One thread and one child process, both made with the first guide."""

    def __init__(self, folder: Path, tokenizer: Any) -> None:
        self._folder = folder
        self._tokenizer = tokenizer
        self._guides: queue.SimpleQueue[Guide | None] = queue.SimpleQueue()
        self._verdicts: queue.SimpleQueue[Verdict] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, guide: Guide) -> None:
        """Compile it soon; guides are compiled in order."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="guides", daemon=True)
            self._thread.start()
        self._guides.put(guide)

    def verdict(self, wait: float) -> Verdict | None:
        """The next guide that is compiled or cannot be; blocks for at most ``wait`` seconds."""
        try:
            return self._verdicts.get(wait > 0, wait)
        except queue.Empty:
            return None

    def close(self) -> None:
        """End the thread and the child."""
        if self._thread is not None:
            self._guides.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        child = _Child(self._folder)
        compiled = None
        while (guide := self._guides.get()) is not None:
            error: OpenLLMError | None
            try:
                error = child.problem(guide)
                if error is None:
                    compiled = compiled or Trial(self._folder, self._tokenizer)
                    compiled(guide)
            except Exception as unexpected:
                compiled = None
                error = RunnerFailed(f"A guide could not be compiled: {unexpected}")
            self._verdicts.put((guide, error))
        child.close()


class _Child:
    """The process that tries guides; started anew when it was killed."""

    def __init__(self, folder: Path) -> None:
        self._argv = [sys.executable, "-m", "openllm.engines.openvino_guide", str(folder), str(os.getpid())]
        self._process: subprocess.Popen[bytes] | None = None

    def problem(self, guide: Guide) -> OpenLLMError | None:
        """Why the guide cannot be used, None if it can. Blocks until the child knows or was killed."""
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(msgspec.json.encode(guide) + b"\n")
        process.stdin.flush()
        limits = _Limits(process.pid)
        while not select.select([process.stdout], [], [], _POLL_SECONDS)[0]:
            if limits.exceeded():
                self.close()
                return wrong(guide, f"compiling it takes more than {MOST_CPU_SECONDS:.0f} s")
        answer = process.stdout.readline()
        if not answer:
            self.close()
            return wrong(guide, "compiling it breaks the compiler")
        said = msgspec.json.decode(answer, type=str)
        return wrong(guide, said.rstrip(".")) if said else None

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                with contextlib.suppress(OSError):
                    pipe.close()
            self._process = None

    def _start(self) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(self._argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        if self._process.stdout.readline() != READY:
            self.close()
            raise RunnerFailed("The process that tries guides does not start.", hint="See the log.")
        return self._process


class _Limits:
    """How long a child may take from now on: CPU time counts, as others may keep the CPU from it."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._cpu = self._used()
        self._begun = time.monotonic()

    def exceeded(self) -> bool:
        return self._used() - self._cpu > MOST_CPU_SECONDS or time.monotonic() - self._begun > _MOST_SECONDS

    def _used(self) -> float:
        try:
            times = self._process.cpu_times()
        except psutil.NoSuchProcess:
            return 0.0
        return float(times.user + times.system)
