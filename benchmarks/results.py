"""What was measured, as plain values that go into the JSON file as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.figures import Figure, Goal
from benchmarks.figures import best as best_of
from benchmarks.stats import spread


@dataclass
class Run:
    """One start of one server in one setting: figures by key, process rows, and everything that went
    wrong."""

    server: str
    setting: str
    round: int
    figures: dict[str, float] = field(default_factory=dict)
    processes: list[dict[str, object]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Cell:
    """A figure over all rounds of one setting: median, least, greatest."""

    median: float
    least: float
    greatest: float
    setting: str


@dataclass
class SuiteResult:
    """All runs of one suite. ``ours`` and ``peer`` are server names as in ``Run.server``; no peer is ""."""

    key: str
    title: str
    ours: str
    peer: str
    streams: tuple[int, ...]
    goals: tuple[Goal, ...]
    commands: dict[str, str]
    notes: list[str] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)

    def cell(self, server: str, key: str, figure: Figure) -> Cell | None:
        """The best setting of a server in one figure, judged by its median; None if it was never measured."""
        values = self._by_setting(server, key)
        if not values:
            return None
        cells = {setting: Cell(*spread(numbers), setting) for setting, numbers in values.items()}
        return cells[best_of({setting: cell.median for setting, cell in cells.items()}, figure)]

    def _by_setting(self, server: str, key: str) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        for run in self.runs:
            if run.server == server and key in run.figures:
                found.setdefault(run.setting, []).append(run.figures[key])
        return found

    def goal(self, key: str) -> Goal | None:
        return next((goal for goal in self.goals if goal.key == key), None)

    def errors(self) -> list[str]:
        return [
            f"{run.server} {run.setting}, round {run.round}: {error}"
            for run in self.runs
            for error in run.errors
        ]

    def warnings(self) -> list[str]:
        return [f"{run.server}, round {run.round}: {text}" for run in self.runs for text in run.warnings]


def ratio(ours: Cell | None, peer: Cell | None) -> float | None:
    """ours/peer of the medians; None if either is missing or the peer's is 0."""
    return ours.median / peer.median if ours and peer and peer.median else None


def all_errors(suites: Sequence[SuiteResult]) -> list[str]:
    return [error for suite in suites for error in suite.errors()]
