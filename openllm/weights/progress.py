"""Who is told how a fetch goes on: a terminal, a log, a parent process, or nobody."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TextIO

from openllm.weights.sizes import duration_text, size_text

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Reporter(Protocol):
    """Is told of one fetch at a time. Called by one thread; ``note`` may come at any time."""

    def start(self, total: int, label: str, done: int = 0) -> None:
        """``label`` of ``total`` bytes begins; ``done`` bytes are here from an earlier attempt."""

    def advance(self, count: int) -> None:
        """``count`` more bytes have arrived (fewer than 0 when some must be fetched again)."""

    def finish(self) -> None:
        """The fetch has ended, well or not."""

    def note(self, text: str) -> None:
        """Something worth a line: what is waited for, what is being checked."""


class QuietReporter:
    """Tells nobody."""

    def start(self, total: int, label: str, done: int = 0) -> None:
        pass

    def advance(self, count: int) -> None:
        pass

    def finish(self) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class Rate:
    """Bytes that have come, and how fast. Bytes of an earlier attempt do not count as speed."""

    def __init__(self, total: int, done: int, clock: Callable[[], float]) -> None:
        self.total = total
        self.done = done
        self._resumed = done
        self._clock = clock
        self._began = clock()

    def per_second(self) -> float:
        return max(0, self.done - self._resumed) / max(self._clock() - self._began, 1e-3)

    def remaining_seconds(self) -> float | None:
        """Seconds to the end at this rate; None when that cannot be said."""
        rate = self.per_second()
        return (self.total - self.done) / rate if rate > 0 and self.total > self.done else None


class PlainReporter:
    """Whole lines without control characters, for logs: one at 10 % steps, or after ``every`` seconds."""

    def __init__(
        self, stream: TextIO | None = None, *, every: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream or sys.stderr
        self._every = every
        self._clock = clock
        self._label = ""
        self._rate = Rate(0, 0, clock)
        self._shown_at = 0.0
        self._shown_tenth = 0

    def start(self, total: int, label: str, done: int = 0) -> None:
        self._label = label
        self._rate = Rate(total, done, self._clock)
        self._shown_at = self._clock()
        self._shown_tenth = self._tenth()
        resumed = f", {size_text(done)} of it already here" if done else ""
        self.note(f"fetching {label} ({size_text(total)}{resumed})")

    def advance(self, count: int) -> None:
        self._rate.done += count
        now = self._clock()
        if self._tenth() > self._shown_tenth or now - self._shown_at >= self._every:
            self._shown_at, self._shown_tenth = now, self._tenth()
            self.note(self._line())

    def finish(self) -> None:
        self._label = ""

    def note(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()

    def _tenth(self) -> int:
        return 10 * self._rate.done // self._rate.total if self._rate.total else 0

    def _line(self) -> str:
        rate = self._rate
        share = (
            f"{100 * rate.done // rate.total} % of {size_text(rate.total)}"
            if rate.total
            else size_text(rate.done)
        )
        left = rate.remaining_seconds()
        ending = f", {duration_text(left)} left" if left is not None else ""
        return f"{self._label}: {share}, {size_text(rate.per_second())}/s{ending}"


class TerminalReporter:
    """A bar with rate and time left, redrawn in place."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def start(self, total: int, label: str, done: int = 0) -> None:
        self.finish()
        self._bar = _rich_bar(self._stream)
        self._task = self._bar.add_task(label, total=total or None, completed=done)
        self._bar.start()

    def advance(self, count: int) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, count)

    def finish(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None

    def note(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            self._stream.write(text + "\n")
            self._stream.flush()


def _rich_bar(stream: TextIO) -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(file=stream), transient=True)


def reporter_for(stream: TextIO | None = None) -> Reporter:
    """A bar if ``stream`` (stderr unless given) is a terminal, plain lines otherwise."""
    stream = stream or sys.stderr
    return TerminalReporter(stream) if stream.isatty() else PlainReporter(stream)
