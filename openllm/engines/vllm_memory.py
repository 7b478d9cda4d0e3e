"""A KV cache on a CPU whose pages come when they are used."""

from __future__ import annotations

import contextlib
import mmap
import sys
from collections.abc import Iterator
from typing import Any

import torch

_LARGE_BYTES = 16 << 20


@contextlib.contextmanager
def pages_on_demand() -> Iterator[None]:
    """Let vLLM get its KV cache as zero pages from the kernel: writing gigabytes of zeros would take a second of
    every start, and all of the memory at once."""
    zeros = torch.zeros

    def lazily(*size: Any, **options: Any) -> Any:
        if _is_cache(size, options):
            return torch.frombuffer(_pages(size[0]), dtype=torch.int8)
        return zeros(*size, **options)

    torch.zeros = lazily
    try:
        yield
    finally:
        torch.zeros = zeros


def _is_cache(size: tuple[Any, ...], options: dict[str, Any]) -> bool:
    """Large, in bytes, in memory: so vLLM asks for its cache, and for nothing else."""
    return (
        sys.platform == "linux"
        and len(size) == 1
        and isinstance(size[0], int)
        and size[0] >= _LARGE_BYTES
        and options.keys() == {"dtype", "device"}
        and options["dtype"] is torch.int8
        and torch.device(options["device"]).type == "cpu"
    )


def _pages(size: int) -> mmap.mmap:
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
