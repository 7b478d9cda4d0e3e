"""Machines of known kinds, so that a plan for another machine can be made on this one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from openllm.errors import UsageError
from openllm.machine.values import Gpu, Machine

_MIB, _GIB = 1 << 20, 1 << 30
_PC_FEATURES = ("avx2", "f16c", "fma")
_SERVER_FEATURES = (
    "amx_bf16",
    "amx_int8",
    "amx_tile",
    "avx512_bf16",
    "avx512_vnni",
    "avx512f",
    *_PC_FEATURES,
)
# What the driver and a desktop hold of a GPU that nobody computes on.
_GPU_TAKEN = 512 * _MIB


class _Kind(NamedTuple):
    """One GPU with its usual share of a host. ``memory`` as the driver reports it, in MiB."""

    gpu: str
    memory: int
    capability: tuple[int, int] | None
    cores: int
    host_gib: int
    features: tuple[str, ...] = _SERVER_FEATURES
    vendor: str = "nvidia"


_KINDS = {
    "rtx3090": _Kind("NVIDIA GeForce RTX 3090", 24_576, (8, 6), 8, 64, _PC_FEATURES),
    "rtx4090": _Kind("NVIDIA GeForce RTX 4090", 24_564, (8, 9), 8, 64, _PC_FEATURES),
    "a10g": _Kind("NVIDIA A10G", 23_028, (8, 6), 4, 32, _PC_FEATURES),
    "l4": _Kind("NVIDIA L4", 23_034, (8, 9), 4, 32, _PC_FEATURES),
    "l40s": _Kind("NVIDIA L40S", 46_068, (8, 9), 8, 128, _PC_FEATURES),
    "a100-40gb": _Kind("NVIDIA A100-SXM4-40GB", 40_960, (8, 0), 6, 85, _PC_FEATURES),
    "a100": _Kind("NVIDIA A100-SXM4-80GB", 81_920, (8, 0), 6, 170, _PC_FEATURES),
    "h100": _Kind("NVIDIA H100 80GB HBM3", 81_559, (9, 0), 13, 234),
    "h200": _Kind("NVIDIA H200", 143_771, (9, 0), 13, 256),
    "b200": _Kind("NVIDIA B200", 183_359, (10, 0), 14, 256),
    "mi300x": _Kind("AMD Instinct MI300X", 196_592, None, 12, 256, vendor="amd"),
}
_LAPTOP = Machine(
    name="laptop-16gb", system="linux", architecture="x86_64", cores=6, memory=16 * _GIB,
    free_memory=10 * _GIB, free_disk=100 * _GIB, cpu_features=_PC_FEATURES,
)  # fmt: skip


def names() -> tuple[str, ...]:
    """Names that ``named`` knows; each with a GPU takes a count too, as in ``h100x2``."""
    return (_LAPTOP.name, *_KINDS)


def named(name: str) -> Machine:
    """A machine of a known kind, idle. Raises ``UsageError`` for a name that is not known."""
    wanted = name.lower()
    if wanted == _LAPTOP.name:
        return _LAPTOP
    kind, count = _KINDS.get(wanted), 1
    if kind is None and (match := re.fullmatch(r"(.+)x([1-9]\d?)", wanted)):
        kind, count = _KINDS.get(match[1]), int(match[2])
    if kind is None:
        raise UsageError(
            f"There is no machine {name!r}.",
            hint=f"Give a file, `this`, or one of {', '.join(names())} (several GPUs: h100x2).",
            param="machine",
        )
    return _host(wanted, kind, count)


def load(path: Path) -> Machine:
    """Read a machine from JSON: the machine itself, or what ``openllm plan --json`` prints.

    Raises ``UsageError`` if the file cannot be read or holds no machine.
    """
    try:
        found: Any = msgspec.json.decode(path.read_bytes())
        if isinstance(found, dict) and "machine" in found:
            found = found["machine"]
        machine = msgspec.convert(found, Machine)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", hint="Name a JSON file.") from error
    except msgspec.MsgspecError as error:
        raise UsageError(
            f"{path} does not describe a machine: {error}.",
            hint="Make one with: openllm plan MODEL --json > machine.json",
            param="machine",
        ) from error
    if machine.cores < 1 or min(machine.memory, machine.free_memory, machine.free_disk) < 0:
        raise UsageError(
            f"{path}: cores must be at least 1 and sizes at least 0 bytes.",
            hint="Correct it.",
            param="machine",
        )
    return machine


def find(text: str) -> Machine:
    """The machine that ``--machine`` means: a file if there is one of that name, else a known name."""
    path = Path(text)
    return load(path) if path.is_file() or path.suffix == ".json" else named(text)


def _host(name: str, kind: _Kind, count: int) -> Machine:
    memory = kind.memory * _MIB
    gpu = Gpu(
        name=kind.gpu, memory=memory, free=memory - _GPU_TAKEN, vendor=kind.vendor, capability=kind.capability
    )
    host = kind.host_gib * count * _GIB
    return Machine(
        name=name, system="linux", architecture="x86_64", cores=kind.cores * count, memory=host,
        free_memory=host - host // 16, free_disk=1000 * _GIB, cpu_features=kind.features, gpus=(gpu,) * count,
    )  # fmt: skip
