"""May this process be forked? Threads do not come along in a fork, and what they held stays held."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def why_not_forkable() -> str:
    """A reason that makes a fork of this process unsafe, as a clause, or ""."""
    names = _threads()
    if len(names) > 1:
        return f"it has the threads {', '.join(sorted(names))}"
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return "it has used a GPU"
    return ""


def _threads() -> list[str]:
    """The names of this process's threads, by the kernel's account: libraries' own pools are among them."""
    return [
        (Path("/proc/self/task") / task / "comm").read_text().strip()
        for task in os.listdir("/proc/self/task")
    ]
