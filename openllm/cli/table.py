"""Tables on stdout: columns for people on a terminal, whole unwrapped lines for a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from openllm.cli.settings import wants_color

_PIPE_WIDTH = 1000  # wide enough that nothing is wrapped, so that grep finds whole lines


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows of as many cells as ``header`` has; the first column is never wrapped."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for index, title in enumerate(header):
        table.add_column(title, no_wrap=index == 0, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    Console(highlight=False, no_color=not wants_color(sys.stdout), width=width).print(table)
