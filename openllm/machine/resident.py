"""How much memory a process holds."""

from __future__ import annotations

import sys
from pathlib import Path

_KIB = 1024


def resident_bytes(pid: int, root: Path = Path("/")) -> int | None:
    """Bytes in memory that would be free without the process: pages that several processes share count in part.

    None if there is no such process. Blocks for milliseconds where it is large. ``root`` is where /proc is read, for
    tests.
    """
    if sys.platform != "linux":
        return _by_psutil(pid)
    try:
        text = (root / f"proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return None
    found = [int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")]
    return found[0] * _KIB if found else None


def _by_psutil(pid: int) -> int | None:
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None
