"""Memory that this process has and does not use."""

from __future__ import annotations

import ctypes
import gc


def give_back() -> None:
    """Collect garbage, and return to the system what is free; blocks for some ten milliseconds.

    glibc keeps most of what is freed for itself; another C library is left to do as it does.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
