"""Numbers that no model and no machine could honour are refused before anything is looked up."""

from __future__ import annotations

from openllm.errors import UsageError
from openllm.memory import MIB, readable
from openllm.plan.values import Overrides
from openllm.weights.adapter import MOST_RANK

# (field, option, least, most, unit)
_RANGES = (
    ("context", "--context", 16, 100_000_000, "tokens"),
    ("concurrency", "--concurrency", 1, 4096, "sequences"),
    ("threads", "--threads", 1, 4096, "threads"),
    ("replicas", "--replicas", 1, 64, "replicas"),
    ("tensor_parallel", "--tensor-parallel", 1, 64, "GPUs"),
    ("max_adapters", "--max-adapters", 1, 1024, "adapters"),
    ("max_adapter_rank", "--max-adapter-rank", 1, MOST_RANK, ""),
)
_LEAST_KV_BYTES = MIB
_LEAST_FRACTION, _MOST_FRACTION = 0.05, 0.98


def check_numbers(overrides: Overrides) -> None:
    """Raise ``UsageError`` for a number out of any sensible range; it names the range."""
    for field, option, least, most, unit in _RANGES:
        value = getattr(overrides, field)
        if value is not None and not least <= value <= most:
            raise _out_of_range(option, f"{value}", f"{least} to {most} {unit}".strip(), field)
    size = overrides.kv_cache_bytes
    if size is not None and size < _LEAST_KV_BYTES:
        raise _out_of_range(
            "--kv-cache", f"{size} B", f"{readable(_LEAST_KV_BYTES)} or more", "kv_cache_bytes"
        )
    fraction = overrides.memory_fraction
    if fraction is not None and not _LEAST_FRACTION <= fraction <= _MOST_FRACTION:
        wanted = f"{_LEAST_FRACTION} to {_MOST_FRACTION}"
        raise _out_of_range("--memory-fraction", f"{fraction}", wanted, "memory_fraction")


def _out_of_range(option: str, value: str, wanted: str, field: str) -> UsageError:
    return UsageError(f"{option} {value} is out of range.", hint=f"Give {wanted}.", param=field)
