"""LoRA adapters of random numbers, written as PEFT writes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

# SmolLM2-135M: (inputs, outputs) of what a LoRA can change in a layer.
HIDDEN, LAYERS = 576, 30
WIDTHS = {
    "self_attn.q_proj": (576, 576),
    "self_attn.k_proj": (576, 192),
    "self_attn.v_proj": (576, 192),
    "self_attn.o_proj": (576, 576),
    "mlp.gate_proj": (576, 1536),
    "mlp.up_proj": (576, 1536),
    "mlp.down_proj": (1536, 576),
}
ATTENTION = ("self_attn.q_proj", "self_attn.v_proj")


def write_adapter(
    folder: Path,
    seed: int,
    *,
    rank: int = 8,
    modules: Sequence[str] = tuple(WIDTHS),
    layers: int = LAYERS,
    hidden: int = HIDDEN,
    scale: float = 0.05,
    **config: Any,
) -> Path:
    """A rank-``rank`` adapter of the seed in ``folder``, which is made; ``config`` goes into its settings."""
    random = np.random.default_rng(seed)
    tensors = {}
    for layer in range(layers):
        for module in modules:
            inputs, outputs = (hidden if width == HIDDEN else width for width in WIDTHS[module])
            name = f"base_model.model.model.layers.{layer}.{module}"
            tensors[f"{name}.lora_A.weight"] = random.normal(0, scale, (rank, inputs)).astype(np.float32)
            tensors[f"{name}.lora_B.weight"] = random.normal(0, scale, (outputs, rank)).astype(np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "SmolLM2-135M-Instruct",
        "r": rank, "lora_alpha": 2 * rank, "lora_dropout": 0.0, "bias": "none",
        "target_modules": [module.rpartition(".")[2] for module in modules],
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps({**settings, **config}))
    return folder
