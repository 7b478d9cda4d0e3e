"""How far a start is, and how long the rest takes: pure, and the file that remembers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openllm.errors import UsageError
from openllm.fleet.duration import NEVER, parse_duration
from openllm.fleet.headway import Headway, expected, learnt
from openllm.fleet.past_starts import PastStarts

TIMES = st.floats(0, 1e6)


def test_a_first_start_has_no_eta_and_the_next_ones_have_the_median_of_the_latest() -> None:
    assert expected([]) is None
    known: list[float] = []
    for seconds in (90.0, 2.0, 2.2, 2.1, 2.4, 60.0):
        known = learnt(known, seconds)
    assert expected(known) == 2.2  # of the latest five


def test_a_start_that_takes_as_long_as_before() -> None:
    way = Headway()
    way.begin(100.0, 4.0)
    assert (way.fraction(101.0), way.left(101.0)) == (0.25, 3.0)
    assert (way.fraction(110.0), way.left(110.0)) == (0.99, 0.0)


def test_a_start_of_which_nothing_is_known() -> None:
    way = Headway()
    way.begin(100.0)
    assert (way.fraction(101.0), way.left(101.0)) == (None, None)


def test_a_download_is_judged_by_its_own_pace() -> None:
    way = Headway()
    way.begin(0.0)
    way.measure(0.5, 10.0)  # half of it was here
    assert (way.fraction(10.0), way.left(10.0)) == (0.5, None)
    way.measure(0.6, 20.0)
    assert way.fraction(20.0) == 0.6
    assert way.left(20.0) == pytest.approx(40.0)
    assert way.left(30.0) == pytest.approx(30.0)


def test_a_second_file_begins_anew() -> None:
    way = Headway()
    way.begin(0.0)
    way.measure(0.9, 1.0)
    way.measure(0.1, 2.0)
    way.measure(0.2, 3.0)
    assert way.left(3.0) == pytest.approx(8.0)


@given(st.floats(0, 1e5), st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1e4))), TIMES)
def test_whatever_is_measured_the_answers_are_in_their_range(
    length: float, parts: list[tuple[float, float]], later: float
) -> None:
    way, now = Headway(), 0.0
    way.begin(0.0, length)
    for part, seconds in parts:
        now += seconds
        way.measure(part, now)
    fraction, left = way.fraction(now + later), way.left(now + later)
    assert fraction is None or 0 <= fraction <= 1
    assert left is None or left >= 0


def test_starts_are_remembered_by_model(tmp_path: Path) -> None:
    PastStarts(tmp_path, "a").learn(3.0)
    PastStarts(tmp_path, "b").learn(5.0)
    assert PastStarts(tmp_path, "a").expected() == 3.0
    assert PastStarts(tmp_path, "b").expected() == 5.0
    assert PastStarts(tmp_path, "c").expected() is None


def test_a_damaged_file_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "starts.json").write_text('{"a": ["soon"]}')
    assert PastStarts(tmp_path, "a").expected() is None
    PastStarts(tmp_path, "a").learn(3.0)
    assert PastStarts(tmp_path, "a").expected() == 3.0


def test_a_folder_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    PastStarts(tmp_path / "file" / "cache", "a").learn(3.0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5400),
        ("500ms", 0.5),
        ("0", 0),
        ("-1", NEVER),
        ("never", NEVER),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "5 minutes", "1e3", "inf", "nan", "5m5"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match="duration"):
        parse_duration(text)
