"""What people and logs are shown while weights are fetched."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import time

from hypothesis import given
from hypothesis import strategies as st

from openllm.weights.progress import PlainReporter, Rate, TerminalReporter, reporter_for
from openllm.weights.sizes import duration_text, size_text


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_plain_lines_come_at_each_tenth() -> None:
    stream, clock = io.StringIO(), Clock()
    reporter = PlainReporter(stream, clock=clock)
    reporter.start(1000, "weights")
    for _ in range(100):
        clock.now += 0.01
        reporter.advance(10)
    reporter.finish()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "fetching weights (1.0 kB)"
    assert lines[1] == "weights: 10 % of 1.0 kB, 1.0 kB/s, 1 s left"
    assert len(lines) == 11
    assert lines[-1] == "weights: 100 % of 1.0 kB, 1.0 kB/s"


def test_plain_lines_come_every_few_seconds_of_a_slow_fetch() -> None:
    stream, clock = io.StringIO(), Clock()
    reporter = PlainReporter(stream, clock=clock)
    reporter.start(10**9, "weights")
    for _ in range(100):
        clock.now += 0.5
        reporter.advance(1000)
    assert len(stream.getvalue().splitlines()) == 1 + 10


def test_bytes_of_an_earlier_attempt_are_no_speed() -> None:
    stream, clock = io.StringIO(), Clock()
    reporter = PlainReporter(stream, clock=clock)
    reporter.start(1000, "weights", done=500)
    clock.now = 1.0
    reporter.advance(100)
    first, second = stream.getvalue().splitlines()
    assert first == "fetching weights (1.0 kB, 500 B of it already here)"
    assert second == "weights: 60 % of 1.0 kB, 100 B/s, 4 s left"


@given(st.lists(st.integers(-50, 100), max_size=60), st.integers(0, 2000))
def test_plain_lines_have_no_control_characters(steps: list[int], total: int) -> None:
    stream, clock = io.StringIO(), Clock()
    reporter = PlainReporter(stream, clock=clock)
    reporter.start(total, "weights")
    for step in steps:
        clock.now += 1
        reporter.advance(step)
    assert re.fullmatch(r"[\x20-\x7e\n]*", stream.getvalue())


def test_a_terminal_gets_a_bar_with_rate_and_time_left() -> None:
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal:
        reporter = reporter_for(terminal)
        assert isinstance(reporter, TerminalReporter)
        reporter.start(1000, "weights")
        reporter.advance(500)
        shown = _shown(master, r"0\.5/1\.0 kB")
        reporter.note("a note")
        reporter.finish()
        shown += _shown(master, "a note")
    os.close(master)
    assert "\x1b[" in shown


def _shown(master: int, wanted: str) -> str:
    """What the terminal has shown by the time that it shows ``wanted``."""
    text, deadline = "", time.monotonic() + 5
    while not re.search(wanted, text):
        assert time.monotonic() < deadline, text
        if select.select([master], [], [], 0.1)[0]:
            text += os.read(master, 100_000).decode()
    return text


def test_a_file_gets_plain_lines() -> None:
    assert isinstance(reporter_for(io.StringIO()), PlainReporter)


def test_no_time_left_is_told_before_anything_came() -> None:
    assert Rate(100, 0, Clock()).remaining_seconds() is None


def test_sizes_and_durations() -> None:
    assert [size_text(count) for count in (0, 999, 98362432, 4_100_000_000, 2e12)] == [
        "0 B", "999 B", "98.4 MB", "4.1 GB", "2.0 TB",
    ]  # fmt: skip
    assert [duration_text(seconds) for seconds in (0.4, 45, 200, 7500)] == [
        "0 s",
        "45 s",
        "3 min 20 s",
        "2 h 5 min",
    ]
