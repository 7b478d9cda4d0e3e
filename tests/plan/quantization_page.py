"""The tables of docs/quantization.md, from ``plan.support``. ``python -m tests.plan.quantization_page`` writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from openllm.plan.support import MODES, ROWS, Row

PAGE = Path(__file__).resolve().parents[2] / "docs" / "quantization.md"
_GENERATED = re.compile(r"(<!-- generated: make golden -->\n).*(<!-- end -->)", re.DOTALL)


def page(text: str) -> str:
    """``text`` with its tables made anew."""
    parts = (
        "## Modes, best quality first",
        _table(
            ("mode", "also asked for by", "what it is", "bits a weight", "how it shows"),
            ((each.name, ", ".join(each.words), each.what, f"{each.bits:g}", each.shows) for each in MODES),
        ),
        "## What runs",
        _table(
            ("engine", "on", "files", "stored", "runs as", "how", "models", "needs", "kernels", "known from"),
            (_cells(row) for row in ROWS if row.possible),
        ),
        '"Measured" is SmolLM2-135M on two cores of an AVX-512 processor: tokens a second at 1/16/64 streams in one '
        "process, and the perplexity of an English text of 327 tokens, which is 21.0 in float32. Small "
        "models suffer more from few bits than large ones.",
        "## What is refused",
        _table(
            ("engine", "on", "files", "stored", "as", "why", "known from"),
            (
                (row.engine, row.device, row.files, ", ".join(row.stored), _runs(row), row.refused, row.basis)
                for row in ROWS
                if not row.possible
            ),
        ),
    )
    made = "\n\n".join(parts)
    return _GENERATED.sub(lambda found: f"{found[1]}\n{made}\n\n{found[2]}", text)


def _cells(row: Row) -> Sequence[str]:
    return (row.engine, row.device, row.files, ", ".join(row.stored), _runs(row), row.how, row.models.what, _needs(row),
            row.kernels, row.basis)  # fmt: skip


def _runs(row: Row) -> str:
    return "the same" if row.how == "as stored" else row.runs


def _needs(row: Row) -> str:
    needs = [f"CUDA {row.capability[0]}.{row.capability[1]}"] if row.capability else []
    needs += ["or AMD"] if row.amd else []
    return ", ".join((*needs, *row.packages))


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
