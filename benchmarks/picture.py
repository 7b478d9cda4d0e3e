"""The report as one picture: a row for each suite, a panel for each of the main figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import LOAD, START, Figure
from benchmarks.results import SuiteResult

OURS, PEER = "#1f6feb", "#9aa4af"
PANELS = ("first_token", "tokens_per_s", "ttft_p50", "itl_p99")
_FIGURES = {figure.key: figure for figure in (*START, *LOAD)}


def draw(suites: Sequence[SuiteResult], path: Path) -> None:
    """Write a PNG. Bars are medians, whiskers least and greatest."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = PANELS if any(suite.streams for suite in suites) else PANELS[:1]
    canvas, axes = pyplot.subplots(
        len(suites),
        len(panels),
        figsize=(1 + 3 * len(panels), 2.8 * len(suites)),
        squeeze=False,
        layout="constrained",
        width_ratios=(1, 2, 2, 2)[: len(panels)],
    )
    for suite, row in zip(suites, axes, strict=True):
        for key, panel in zip(panels, row, strict=True):
            _panel(panel, suite, _FIGURES[key])
        row[0].set_ylabel(suite.key, fontsize=11, fontweight="bold")
        row[-1 if len(panels) == 1 else 1].legend(fontsize=8, frameon=False, loc="upper left")
    canvas.savefig(path, dpi=90)
    pyplot.close(canvas)


def _panel(panel: Any, suite: SuiteResult, figure: Figure) -> None:
    per_load = figure in LOAD
    places = [f"{figure.key}@{streams}" for streams in suite.streams] if per_load else [figure.key]
    for offset, server, colour in ((-0.2, suite.ours, OURS), (0.2, suite.peer, PEER)):
        cells = [(at, cell) for at, key in enumerate(places) if (cell := suite.cell(server, key, figure))]
        if not cells:
            continue
        bars = panel.bar(
            [at + offset for at, _ in cells],
            [cell.median for _, cell in cells],
            width=0.38,
            color=colour,
            label=server,
            yerr=[
                [cell.median - cell.least for _, cell in cells],
                [cell.greatest - cell.median for _, cell in cells],
            ],
            error_kw={"lw": 0.8, "ecolor": "#333"},
        )
        panel.bar_label(bars, fmt=_label, fontsize=7, padding=2)
    panel.set_xticks(range(len(places)), [str(count) for count in suite.streams] if per_load else [""])
    panel.set_title(f"{figure.label}{'' if figure.unit == '1/s' else f' ({figure.unit})'}", fontsize=9)
    panel.tick_params(labelsize=8)
    panel.margins(y=0.3)
    panel.spines[["top", "right"]].set_visible(False)
    if per_load:
        panel.set_xlabel("streams", fontsize=8)


def _label(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"
