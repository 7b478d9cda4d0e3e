"""What processes cost that have nothing to do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import psutil


class Rest(NamedTuple):
    """``processes`` in all, their resident sets summed, the same with shared pages counted in part, and the share of
    one core that they took."""

    processes: int
    rss: int
    pss: int
    cpu: float


def rest(processes: Sequence[psutil.Process], seconds: float) -> Rest:
    """Look at processes that wait, for so many seconds. Blocks."""
    before = _cpu_seconds(processes)
    time.sleep(seconds)
    used = _cpu_seconds(processes) - before
    memory = [process.memory_full_info() for process in processes]
    return Rest(
        len(processes), sum(each.rss for each in memory), sum(each.pss for each in memory), used / seconds
    )


def _cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)
