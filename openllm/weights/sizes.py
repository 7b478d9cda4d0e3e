"""Sizes as people read them."""

from __future__ import annotations


def size_text(count: float) -> str:
    """``count`` bytes in decimal units, as disks and hubs state them: 98500000 -> "98.5 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < (999.5 if unit == "B" else 999.95):  # above, it would be shown as 1000
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration_text(seconds: float) -> str:
    """Seconds as "45 s", "3 min 20 s" or "2 h 5 min"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
