"""A batch's answers, appended to the two files that will be its output.

A line is done when it stands here, whole. After a process was killed the journal is read again: a torn last line
is cut off, and the ids that are left are those not to be run once more.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

import msgspec

from openllm.batches.records import Usage


class Answered(msgspec.Struct, frozen=True):
    """``response`` or ``error`` of one request, as OpenAI's output files have them."""

    id: str
    custom_id: str
    response: Response | None
    error: Failure | None


class Response(msgspec.Struct, frozen=True):
    """What a route answered; ``body`` is its JSON."""

    status_code: int
    request_id: str
    body: msgspec.Raw


class Failure(msgspec.Struct, frozen=True):
    """Why a request has no response."""

    code: str
    message: str


CountAnswer = Callable[[Answered], None]


class _Details(msgspec.Struct):
    cached_tokens: int = 0
    reasoning_tokens: int = 0


class _Spent(msgspec.Struct):
    """The ``usage`` of any route: each names its tokens its own way."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None


class _Body(msgspec.Struct):
    usage: _Spent | None = None


class Journal:
    """``done`` are the custom ids that have their answer; ``completed``, ``failed`` and ``usage`` count them.

    ``add`` takes an answer in memory, ``flush`` writes what was added; any thread may call it.
    Opening blocks: it reads what is there. Raises ``OSError``.
    """

    def __init__(self, output: Path, errors: Path) -> None:
        self.folder = output.parent
        self.done: set[str] = set()
        self.completed = 0
        self.failed = 0
        self.usage = Usage()
        self._flushing = threading.Lock()
        self._files = tuple(_Appended(path, self._count) for path in (output, errors))

    def add(self, answered: Answered) -> None:
        """Count an answer and keep it for the next ``flush``; a second one to the same id is dropped."""
        if answered.custom_id in self.done:
            return
        self._count(answered)
        good = answered.response is not None and answered.response.status_code < 400
        self._files[0 if good else 1].waiting.append(msgspec.json.encode(answered) + b"\n")

    @property
    def waiting(self) -> bool:
        """Is there something to flush?"""
        return any(file.waiting for file in self._files)

    def flush(self, *, sync: bool) -> None:
        """Write what was added; with ``sync`` it is on the disk afterwards. Blocks.

        Raises ``OSError``; then nothing is lost, and it may be tried again.
        """
        with self._flushing:
            for file in self._files:
                file.flush()
                if sync:
                    os.fsync(file.file.fileno())

    def close(self) -> None:
        """Close the files. What was not flushed is run again another time."""
        for file in self._files:
            file.file.close()

    def _count(self, answered: Answered) -> None:
        self.done.add(answered.custom_id)
        if answered.response is None or answered.response.status_code >= 400:
            self.failed += 1
            return
        self.completed += 1
        _add_usage(self.usage, answered.response.body)


class _Appended:
    """A file of whole lines."""

    def __init__(self, path: Path, each: CountAnswer) -> None:
        self.waiting: list[bytes] = []
        self.file: IO[bytes] = path.open("a+b", buffering=0)
        self._length = self._read(each)

    def _read(self, each: CountAnswer) -> int:
        """Count what is there and cut off a torn end; returns the length of what is whole."""
        self.file.seek(0)
        length = 0
        with open(self.file.fileno(), "rb", closefd=False) as buffered:
            for text in buffered:
                try:
                    answered = msgspec.json.decode(text, type=Answered)
                except msgspec.DecodeError:
                    break
                if not text.endswith(b"\n"):
                    break
                each(answered)
                length += len(text)
        self.file.truncate(length)
        return length

    def flush(self) -> None:
        """Append what waits, all or nothing."""
        lines = self.waiting[:]
        content = memoryview(b"".join(lines))
        written = 0
        try:
            while written < len(content):
                written += self.file.write(content[written:])
        except OSError:
            self.file.truncate(self._length)
            raise
        self._length += written
        del self.waiting[: len(lines)]


def _add_usage(usage: Usage, body: msgspec.Raw) -> None:
    try:
        spent = msgspec.json.decode(body, type=_Body).usage
    except msgspec.ValidationError:
        return  # a route without a usage of this kind
    if spent is None:
        return
    into = spent.input_tokens_details or spent.prompt_tokens_details or _Details()
    out = spent.output_tokens_details or spent.completion_tokens_details or _Details()
    usage.input_tokens += spent.input_tokens or spent.prompt_tokens
    usage.output_tokens += spent.output_tokens or spent.completion_tokens
    usage.cached_tokens += into.cached_tokens
    usage.reasoning_tokens += out.reasoning_tokens
