"""GPUs of this host. A machine without one pays for a look at a few paths."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from openllm.machine.values import Gpu

_MIB = 1 << 20
_SMI_SECONDS = 5.0
_SMI_FIELDS = "index,uuid,name,memory.total,memory.free,compute_cap"
_AMD = "0x1002"
# Integrated graphics report the few hundred MiB that the firmware set aside for them.
_AMD_LEAST_BYTES = 4 << 30


def nvidia(visible: str | None = None) -> tuple[Gpu, ...]:
    """GPUs that nvidia-smi lists; none if it is absent, fails, or takes over 5 s.

    ``visible`` is the text of CUDA_VISIBLE_DEVICES: indices or UUIDs, in its order; None means all.
    """
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    try:
        done = subprocess.run(
            [tool, f"--query-gpu={_SMI_FIELDS}", "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=_SMI_SECONDS, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]
    found = {(row[0], row[1]): gpu for row in rows if (gpu := _nvidia_gpu(row)) is not None}
    if visible is None:
        return tuple(found.values())
    return _visible(found, visible)


def amd(root: Path = Path("/")) -> tuple[Gpu, ...]:
    """Discrete GPUs that the amdgpu driver shows in sysfs (mem_info_vram_total and _used, in bytes)."""
    found = []
    for device in sorted(root.glob("sys/class/drm/card[0-9]*/device")):
        total = _number(device / "mem_info_vram_total")
        if _line(device / "vendor") != _AMD or total < _AMD_LEAST_BYTES:
            continue
        used = _number(device / "mem_info_vram_used")
        name = _line(device / "product_name") or "AMD GPU"
        found.append(Gpu(name=name, memory=total, free=max(0, total - used), vendor="amd"))
    return tuple(found)


def only(indices: Sequence[int], visible: str | None) -> str:
    """The text of CUDA_VISIBLE_DEVICES that leaves the GPUs at these places of those that ``visible``, its text now,
    leaves; None means all."""
    names = [] if visible is None else [part.strip() for part in visible.split(",")]
    return ",".join(names[index] if visible is not None else str(index) for index in indices)


def _nvidia_gpu(row: list[str]) -> Gpu | None:
    try:
        _, _, name, total, free, capability = row
        major, minor = capability.split(".")
        return Gpu(
            name=name, memory=int(total) * _MIB, free=int(free) * _MIB, capability=(int(major), int(minor))
        )
    except ValueError:  # "[N/A]" where a driver does not tell, e.g. memory shared with the host
        return None


def _visible(found: dict[tuple[str, str], Gpu], visible: str) -> tuple[Gpu, ...]:
    chosen = []
    for wanted in (part.strip() for part in visible.split(",")):
        gpu = next((gpu for (index, uuid), gpu in found.items() if _is(wanted, index, uuid)), None)
        if gpu is None:  # CUDA too stops at the first name that it does not know
            break
        chosen.append(gpu)
    return tuple(chosen)


def _is(wanted: str, index: str, uuid: str) -> bool:
    return wanted == index or (wanted.startswith("GPU-") and uuid.startswith(wanted))


def _line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int:
    text = _line(path)
    return int(text) if text.isdigit() else 0
