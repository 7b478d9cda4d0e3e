"""Looks at this host: quick enough to be on the way of every start, and free of heavy imports."""

from __future__ import annotations

import math
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from openllm.machine import cgroup, gpus
from openllm.machine.values import Machine

_KIB = 1024
_ARITHMETIC = ("amx", "avx", "fma", "f16c", "asimd", "sve", "sme", "i8mm", "bf16")


def probe(cache_root: Path, *, visible_gpus: str | None = None, root: Path = Path("/")) -> Machine:
    """What this process may use now. Blocks for a few milliseconds, longer where nvidia-smi is installed.

    ``free_disk`` is that of ``cache_root``'s file system (its nearest folder that exists). ``visible_gpus``
    is the text of CUDA_VISIBLE_DEVICES. ``root`` is where /proc and /sys are read, for tests.
    """
    memory, free = _memory(root)
    return Machine(
        name="this",
        system=platform.system().lower(),
        architecture=platform.machine().lower(),
        cores=_cores(root),
        memory=memory,
        free_memory=free,
        free_disk=_free_disk(cache_root),
        cpu_features=_cpu_features(root),
        gpus=gpus.nvidia(visible_gpus) + gpus.amd(root),
    )


def _cores(root: Path) -> int:
    """Physical cores among the CPUs that the affinity mask leaves, no more than the control group's quota."""
    if sys.platform != "linux":
        import psutil

        return int(psutil.cpu_count(logical=False) or os.cpu_count() or 1)
    cores = set()
    for cpu in os.sched_getaffinity(0):
        siblings = root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        try:
            cores.add(siblings.read_text(encoding="ascii").strip())
        except OSError:  # no topology (some sandboxes): each CPU counts as a core
            cores.add(str(cpu))
    quota = cgroup.cpu_quota(root)
    return max(1, len(cores) if quota is None else min(len(cores), math.ceil(quota)))


def _memory(root: Path) -> tuple[int, int]:
    """Bytes in all and bytes that can be had without swapping."""
    if sys.platform != "linux":
        import psutil

        found = psutil.virtual_memory()
        return int(found.total), int(found.available)
    facts = {}
    for line in (root / "proc/meminfo").read_text(encoding="ascii").splitlines():
        key, _, value = line.partition(":")
        facts[key] = int(value.split()[0]) * _KIB
    total, free = facts["MemTotal"], facts.get("MemAvailable", facts["MemFree"])
    limit = cgroup.memory_limit(root)
    if limit is None:
        return total, free
    return min(total, limit.limit), min(free, limit.left)


def _free_disk(folder: Path) -> int:
    folder = folder.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _cpu_features(root: Path) -> tuple[str, ...]:
    if sys.platform == "darwin":
        return _mac_features()
    try:
        with (root / "proc/cpuinfo").open(encoding="ascii", errors="replace") as lines:
            for line in lines:
                key, _, value = line.partition(":")
                if key.strip() in ("flags", "Features"):  # x86 and ARM; every CPU of a host has the same
                    return _arithmetic(value)
    except OSError:
        pass
    return ()


def _mac_features() -> tuple[str, ...]:
    keys = ["machdep.cpu.features", "machdep.cpu.leaf7_features"]
    try:
        done = subprocess.run(["sysctl", "-n", *keys], capture_output=True, text=True, timeout=2, check=False)
    except (OSError, subprocess.SubprocessError):
        return ()
    return _arithmetic(done.stdout.lower())


def _arithmetic(flags: str) -> tuple[str, ...]:
    return tuple(sorted(flag for flag in flags.split() if flag.startswith(_ARITHMETIC)))
