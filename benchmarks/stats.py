"""The few statistics that the tables need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def percentile(values: Iterable[float], percent: float) -> float:
    """Linear interpolation between closest ranks, as NumPy's default. Raises ``ValueError`` on no values."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("a percentile of nothing")
    position = (len(ordered) - 1) * percent / 100
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def median(values: Iterable[float]) -> float:
    return percentile(values, 50)


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """(median, least, greatest)"""
    return median(values), min(values), max(values)
