"""Every decision of a start, made once and purely, each with its reason."""

from __future__ import annotations

import msgspec

from openllm.memory import Term
from openllm.weights.adapter import Adapter, AdapterRef
from openllm.weights.manifest import Manifest


class Overrides(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller insists on; None leaves the choice to the plan. Sizes in bytes, lengths in tokens."""

    backend: str | None = None
    quantize: str | None = None
    variant: str | None = None
    dtype: str | None = None
    context: int | None = None
    concurrency: int | None = None
    threads: int | None = None
    kv_cache_bytes: int | None = None
    kv_cache_dtype: str | None = None
    tensor_parallel: int | None = None
    replicas: int | None = None
    memory_fraction: float | None = None
    device: str | None = None
    adapters: tuple[AdapterRef, ...] = ()
    allow_adapter_loading: bool = False
    max_adapters: int | None = None
    max_adapter_rank: int | None = None


class Decision(msgspec.Struct, frozen=True):
    """One field of the plan, its value as text, and why."""

    field: str
    value: str
    because: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A frozen start: what to fetch, which engine runs it and with what; ``arithmetic`` is that of its memory.

    Sizes, threads and concurrency are those of each of the ``replicas``. ``gpus`` are the indices of each one's GPUs,
    where there are several; empty if one has all.
    """

    name: str
    manifest: Manifest
    engine: str
    device: str
    quantization: str
    dtype: str
    kv_cache_dtype: str
    context: int
    concurrency: int
    threads: int
    kv_cache_bytes: int
    weight_bytes: int
    tensor_parallel: int
    memory_fraction: float
    eager: bool
    decisions: tuple[Decision, ...]
    adapters: tuple[Adapter, ...] = ()
    adapter_loading: bool = False
    max_adapters: int = 0
    adapter_slots: int = 0
    max_adapter_rank: int = 0
    sees: bool = False
    arithmetic: tuple[Term, ...] = ()
    replicas: int = 1
    gpus: tuple[tuple[int, ...], ...] = ()
