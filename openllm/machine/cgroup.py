"""Limits that a container sets: control groups of both versions, every ancestor counted.

Source: the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# Version 1 writes "no limit" as a number near 2**63, rounded down to a page.
_NO_LIMIT = 1 << 60


class MemoryLimit(NamedTuple):
    """Bytes that one control group allows, and those that are left (page cache can be dropped)."""

    limit: int
    left: int


def cpu_quota(root: Path = Path("/")) -> float | None:
    """CPUs that the tightest control group grants, e.g. 1.5; None without a limit."""
    quotas = [quota for folder in _folders(root, "cpu") if (quota := _cpu_quota(folder)) is not None]
    return min(quotas, default=None)


def memory_limit(root: Path = Path("/")) -> MemoryLimit | None:
    """The smallest limit and the least that is left among this process' groups; None without a limit."""
    found = [limit for folder in _folders(root, "memory") if (limit := _memory_limit(folder)) is not None]
    if not found:
        return None
    return MemoryLimit(min(each.limit for each in found), min(each.left for each in found))


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """Folders of this process' groups for one controller, innermost first, up to the mount.

    Inside a container the path in /proc may name folders that only the host sees: they are skipped, and the
    mount itself is then the container's own group.
    """
    mounts = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            candidates = (mounts, mounts / "unified")
        elif controller in controllers.split(","):
            candidates = (mounts / controller, mounts / controllers)
        else:
            continue
        parts = [part for part in path.split("/") if part and part != ".."]
        for mount in candidates:
            for depth in range(len(parts), -1, -1):
                folder = mount.joinpath(*parts[:depth])
                if folder.is_dir():
                    yield folder


def _cpu_quota(folder: Path) -> float | None:
    quota, _, period = _text(folder / "cpu.max").partition(" ")
    if not quota:
        quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
    try:
        allowed = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None
    return allowed if allowed > 0 else None


def _memory_limit(folder: Path) -> MemoryLimit | None:
    for limit_file, usage_file, droppable in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit = _text(folder / limit_file)
        if limit.isdigit() and int(limit) < _NO_LIMIT:
            usage = _text(folder / usage_file)
            used = int(usage) if usage.isdigit() else 0
            used -= min(used, _stat(folder / "memory.stat", droppable))
            return MemoryLimit(int(limit), max(0, int(limit) - used))
    return None


def _stat(path: Path, key: str) -> int:
    for line in _text(path).splitlines():
        name, _, value = line.partition(" ")
        if name == key and value.isdigit():
            return int(value)
    return 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
