"""The report as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.figures import Figure, Goal, keys
from benchmarks.results import Cell, SuiteResult, ratio

MAX_ERRORS = 20


def number(value: float) -> str:
    """Three significant digits, thousands separated: 0.0123, 1.23, 12.3, 123, 1,234."""
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.3g}"


def cell_text(cell: Cell | None, settings: bool) -> str:
    """Median and range; ``settings`` adds which setting it was."""
    if cell is None:
        return "-"
    text = number(cell.median)
    if cell.least != cell.greatest:
        text += f" ({number(cell.least)} to {number(cell.greatest)})"
    return f"{text}, {cell.setting}" if settings else text


def goal_text(goal: Goal | None, ours: Cell | None, times: float | None) -> str:
    if goal is None:
        return ""
    met = goal.met(ours.median, times) if ours else None
    return str(goal) if met is None else f"{goal} {'met' if met else '**missed**'}"


def _row(suite: SuiteResult, key: str, figure: Figure, streams: int | None) -> str | None:
    ours, peer = suite.cell(suite.ours, key, figure), suite.cell(suite.peer, key, figure)
    if ours is None and peer is None:
        return None
    times = ratio(ours, peer)
    where = f", {streams} stream{'s' if streams != 1 else ''}" if streams else ""
    unit = "" if figure.unit in ("1", "1/s") else f", {figure.unit}"
    several = len({run.setting for run in suite.runs if run.server == suite.peer}) > 1
    columns = [
        f"{figure.label}{where}{unit}",
        cell_text(ours, settings=False),
        cell_text(peer, settings=several),
        f"{times:.2f}x" if times is not None else "-",
        goal_text(suite.goal(key), ours, times),
    ]
    return f"| {' | '.join(columns)} |"


def suite_table(suite: SuiteResult) -> list[str]:
    rows = [_row(suite, *key) for key in keys(suite.streams)]
    lines = [
        f"## {suite.title}",
        "",
        f"| figure | {suite.ours} | {suite.peer or 'no peer'} | ours/peer | goal |",
        "|---|---|---|---|---|",
        *[row for row in rows if row],
        f"| wrong or missing answers | {_count(suite, suite.ours)} | {_count(suite, suite.peer)} | | |",
        "",
        *[f"- {name}: `{command}`" for name, command in suite.commands.items()],
        *[f"- Note: {note}." for note in suite.notes],
    ]
    lines += _faults(suite)
    return [*lines, ""]


def _count(suite: SuiteResult, server: str) -> str:
    return str(sum(len(run.errors) for run in suite.runs if run.server == server)) if server else "-"


def _faults(suite: SuiteResult) -> list[str]:
    errors, warnings = suite.errors(), suite.warnings()
    lines = [f"- Warning: {text}." for text in warnings]
    lines += [f"- **Error**: {error.partition(chr(10))[0]}" for error in errors[:MAX_ERRORS]]
    if len(errors) > MAX_ERRORS:
        lines.append(f"- **Error**: {len(errors) - MAX_ERRORS} more; all are in the JSON file")
    return lines


def report(
    suites: Sequence[SuiteResult],
    surroundings: Mapping[str, str],
    rounds: int,
    warnings: Sequence[str],
    picture: str,
) -> str:
    """The whole page. ``picture`` is the file name of the picture beside it."""
    lines = [
        "# Benchmarks",
        "",
        f"Median of {rounds} round{'s' if rounds != 1 else ''} (least to greatest). Servers take turns, one at a"
        " time, with the load generator on the same cores. Where a peer has several settings, each figure is its"
        " best one's. How each figure is taken: [benchmarks/README.md](../README.md).",
        "",
        *[f"- {name}: {value}" for name, value in surroundings.items()],
        *[f"- **Warning**: {text}." for text in warnings],
        "",
        f"![ours and the peers]({picture})",
        "",
    ]
    for suite in suites:
        lines += suite_table(suite)
    return "\n".join(lines)
