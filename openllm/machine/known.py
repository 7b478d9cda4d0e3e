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
    "t4": _Kind("Tesla T4", 15_360, (7, 5), 4, 32, _PC_FEATURES),
    "v100": _Kind("Tesla V100-SXM2-32GB", 32_768, (7, 0), 8, 64, _PC_FEATURES),
    "rtx3060": _Kind("NVIDIA GeForce RTX 3060", 12_288, (8, 6), 6, 32, _PC_FEATURES),
    "rtx3090": _Kind("NVIDIA GeForce RTX 3090", 24_576, (8, 6), 8, 64, _PC_FEATURES),
    "rtx4090": _Kind("NVIDIA GeForce RTX 4090", 24_564, (8, 9), 8, 64, _PC_FEATURES),
    "rtx5090": _Kind("NVIDIA GeForce RTX 5090", 32_607, (12, 0), 8, 64, _PC_FEATURES),
    "rtx-a6000": _Kind("NVIDIA RTX A6000", 49_140, (8, 6), 8, 128, _PC_FEATURES),
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
_COUNTS = (1, 2, 4, 8)
# A desktop and its programs hold 6 GiB of a laptop's memory.
_LAPTOPS = {
    f"laptop-{memory}gb": Machine(
        name=f"laptop-{memory}gb", system="linux", architecture="x86_64", cores=cores, memory=memory * _GIB,
        free_memory=(memory - 6) * _GIB, free_disk=100 * _GIB, cpu_features=_PC_FEATURES,
    )
    for memory, cores in ((8, 4), (16, 6), (32, 8), (64, 8))
}  # fmt: skip


def names() -> tuple[str, ...]:
    """Names that ``named`` knows; each with a GPU takes a count too, as in ``h100x2``."""
    return (*_LAPTOPS, *_KINDS)


def sizes() -> tuple[str, ...]:
    """Names of machines with 1, 2, 4 and 8 GPUs of each kind, least GPU memory first; of equals, fewest GPUs."""
    counted = [(kind.memory * count, count, name) for name, kind in _KINDS.items() for count in _COUNTS]
    return tuple(f"{name}x{count}" if count > 1 else name for _, count, name in sorted(counted))


def named(name: str) -> Machine:
    """A machine of a known kind, idle. Raises ``UsageError`` for a name that is not known."""
    wanted = name.lower()
    if wanted in _LAPTOPS:
        return _LAPTOPS[wanted]
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
