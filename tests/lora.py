"""LoRA adapters of random numbers, written as PEFT writes them, and a tiny model for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save_file

from openllm.chat.tokenizer import load_tokenizer


class Dimensions(NamedTuple):
    """Of a llama. Heads are of the same number in queries, keys and values, or as ``keys`` says."""

    hidden: int
    layers: int
    inner: int
    keys: int

    def widths(self) -> dict[str, tuple[int, int]]:
        """(inputs, outputs) of what a LoRA can change in a layer."""
        hidden, inner = self.hidden, self.inner
        return {
            "self_attn.q_proj": (hidden, hidden),
            "self_attn.k_proj": (hidden, self.keys),
            "self_attn.v_proj": (hidden, self.keys),
            "self_attn.o_proj": (hidden, hidden),
            "mlp.gate_proj": (hidden, inner),
            "mlp.up_proj": (hidden, inner),
            "mlp.down_proj": (inner, hidden),
        }


SMOLLM2 = Dimensions(hidden=576, layers=30, inner=1536, keys=192)
TINY = Dimensions(hidden=64, layers=2, inner=128, keys=64)
EVERYTHING = tuple(SMOLLM2.widths())
ATTENTION = ("self_attn.q_proj", "self_attn.v_proj")


def write_adapter(
    folder: Path,
    seed: int,
    *,
    rank: int = 8,
    modules: Sequence[str] = EVERYTHING,
    shape: Dimensions = SMOLLM2,
    scale: float = 0.05,
    **config: Any,
) -> Path:
    """A rank-``rank`` adapter of the seed in ``folder``, which is made; ``config`` goes into its settings."""
    random = np.random.default_rng(seed)
    tensors = {}
    for layer in range(shape.layers):
        for module in modules:
            inputs, outputs = shape.widths()[module]
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


def write_model(folder: Path, gguf: Path) -> Path:
    """A random llama of the size ``TINY`` with the tokenizer and the template of ``gguf``."""
    random = np.random.default_rng(20)
    tokenizer = load_tokenizer(gguf)

    def matrix(outputs: int, inputs: int) -> np.ndarray[Any, Any]:
        return random.normal(0, 0.3, (outputs, inputs)).astype(np.float32)

    tensors = {
        "model.embed_tokens.weight": matrix(tokenizer.vocabulary, TINY.hidden),
        "lm_head.weight": matrix(tokenizer.vocabulary, TINY.hidden),
        "model.norm.weight": np.ones(TINY.hidden, np.float32),
    }
    for layer in range(TINY.layers):
        prefix = f"model.layers.{layer}"
        for module, (inputs, outputs) in TINY.widths().items():
            tensors[f"{prefix}.{module}.weight"] = matrix(outputs, inputs)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{prefix}.{norm}.weight"] = np.ones(TINY.hidden, np.float32)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.backend.save(str(folder / "tokenizer.json"))
    named = {**tokenizer.special_tokens, "chat_template": tokenizer.chat_template}
    (folder / "tokenizer_config.json").write_text(json.dumps(named))
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": tokenizer.vocabulary,
        "hidden_size": TINY.hidden, "intermediate_size": TINY.inner, "num_hidden_layers": TINY.layers,
        "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": False,
        "bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id, "dtype": "float32",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return folder
