"""The report says what was measured: medians, the peer's best setting, ratios, goals, every error."""

from __future__ import annotations

from pathlib import Path

from benchmarks.figures import Goal
from benchmarks.picture import draw
from benchmarks.results import Run, SuiteResult
from benchmarks.table import number, report, suite_table


def suite() -> SuiteResult:
    runs = [
        Run(
            "ours",
            "default",
            1,
            {"first_token": 1.5, "tokens_per_s@16": 600.0, "front_us_per_token@16": 27.0},
        ),
        Run(
            "ours",
            "default",
            2,
            {"first_token": 1.7, "tokens_per_s@16": 500.0, "front_us_per_token@16": 29.0},
        ),
        Run(
            "ours",
            "default",
            3,
            {"first_token": 1.6, "tokens_per_s@16": 550.0, "front_us_per_token@16": 28.0},
        ),
        Run("peer", "a", 1, {"first_token": 20.0, "tokens_per_s@16": 300.0}),
        Run(
            "peer",
            "b",
            1,
            {"first_token": 30.0, "tokens_per_s@16": 500.0},
            errors=["16 streams: no text\nlog"],
        ),
        Run("peer", "b", 2, {"first_token": 40.0, "tokens_per_s@16": 500.0}, warnings=["busy"]),
    ]
    goals = (Goal("first_token", at_most=0.4), Goal("tokens_per_s@16", at_least=1.5))
    return SuiteResult("key", "Title", "ours", "peer", (16,), goals, {"ours": "run ours"}, runs=runs)


def test_rows() -> None:
    lines = suite_table(suite())
    assert "| command to first token, s | 1.6 (1.5 to 1.7) | 20.0, a | 0.08x | <= 0.4x met |" in lines
    assert (
        "| output tokens/s, 16 streams | 550 (500 to 600) | 500, b | 1.10x | >= 1.5x **missed** |" in lines
    ), lines
    assert "| front CPU a streamed token, 16 streams, µs | 28.0 (27.0 to 29.0) | - | - |  |" in lines
    assert "| wrong or missing answers | 0 | 1 | | |" in lines
    assert "- **Error**: peer b, round 1: 16 streams: no text" in lines
    assert "- Warning: peer, round 2: busy." in lines
    assert not any("1 stream," in line for line in lines)


def test_without_a_peer_a_ratio_is_neither_met_nor_missed() -> None:
    alone = SuiteResult("key", "Title", "ours", "", (16,), suite().goals, {}, runs=suite().runs[:3])
    lines = suite_table(alone)
    assert "| output tokens/s, 16 streams | 550 (500 to 600) | - | - | >= 1.5x |" in lines
    assert "| wrong or missing answers | 0 | - | | |" in lines


def test_an_absolute_goal_needs_no_peer() -> None:
    goal = Goal("first_token", at_most=2.0, absolute=True)
    assert str(goal) == "<= 2"
    assert goal.met(1.9, None) is True
    assert goal.met(2.1, 0.1) is False


def test_report_names_the_surroundings_and_warns() -> None:
    page = report([suite()], {"processor": "Some CPU"}, 3, ["busy machine"], "latest.png")
    assert "Median of 3 rounds" in page
    assert "- processor: Some CPU" in page
    assert "- **Warning**: busy machine." in page
    assert "(latest.png)" in page


def test_numbers_have_three_digits() -> None:
    values = (0.01234, 1.5, 12.345, 123.4, 5432.1, 0.0)
    assert [number(value) for value in values] == ["0.0123", "1.5", "12.3", "123", "5,432", "0"]


def test_picture_is_a_small_png(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    draw([suite(), suite()], path)
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert len(data) < 300_000
