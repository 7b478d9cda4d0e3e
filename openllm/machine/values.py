"""The values of the room: one host and its GPUs."""

from __future__ import annotations

import msgspec


class Gpu(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One GPU. ``memory`` and ``free`` in bytes; ``capability`` is (major, minor) for CUDA, else None."""

    name: str
    memory: int
    free: int
    vendor: str = "nvidia"
    capability: tuple[int, int] | None = None


class Machine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One host. Sizes in bytes; ``cores`` are physical cores this process may use; ``cpu_features`` those
    that arithmetic is chosen by, named as in /proc/cpuinfo (avx2, avx512f, avx512_bf16, amx_tile, asimd, ...).
    """

    name: str
    system: str
    architecture: str
    cores: int
    memory: int
    free_memory: int
    free_disk: int
    cpu_features: tuple[str, ...] = ()
    gpus: tuple[Gpu, ...] = ()
