"""Tiny models of several architectures with random weights, on the transformers engine and by ``generate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

VOCABULARY = 96
_SMALL = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "bos_token_id": 1,
    "eos_token_id": 2, "pad_token_id": 0, "initializer_range": 0.4,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "LlamaConfig": _SMALL,
    "Qwen3Config": {**_SMALL, "head_dim": 16},
    "MistralConfig": {**_SMALL, "sliding_window": 7},
    "Gemma2Config": {**_SMALL, "head_dim": 8, "sliding_window": 6, "attn_logit_softcapping": 2.0},
    "GptOssConfig": {
        **_SMALL, "head_dim": 8, "sliding_window": 6, "num_local_experts": 4, "num_experts_per_tok": 2,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    "DeepseekV3Config": {
        **_SMALL, "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8, "v_head_dim": 12, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1,
        "topk_group": 1, "moe_intermediate_size": 16, "first_k_dense_replace": 1,
    },
    "BloomConfig": {
        "vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.4,
    },
    "MambaConfig": {
        "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4,
        "initializer_range": 0.4,
    },
}  # fmt: skip


class Architectures:
    """Builds a model, and runs the engine on it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make(self, name: str) -> Path:
        """A folder with a model of this configuration."""
        import torch
        import transformers

        folder = self._folder / name
        if not folder.exists():
            torch.manual_seed(5)
            config = getattr(transformers, name)(**CONFIGS[name])
            transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
        return folder

    def open(self, name: str, tokens: int) -> Any:
        """The engine, with a cache of about so many tokens."""
        from openllm.engines.open import open_engine
        from tests.engines.architectures import config_of

        wide = open_engine(config_of(self.make(name), 1 << 20), lambda _: None)
        each = (1 << 20) // wide._forward.total  # type: ignore[attr-defined]
        return open_engine(config_of(self.make(name), each * tokens), lambda _: None)

    def generated(self, name: str, prompts: list[list[int]], count: int) -> list[list[int]]:
        """transformers' own greedy answers, one prompt at a time."""
        import torch
        from transformers import AutoModelForCausalLM

        # Gemma 2 needs it: the default leaves the soft limit of its scores out.
        model = AutoModelForCausalLM.from_pretrained(
            self.make(name), dtype=torch.float32, attn_implementation="eager"
        )
        answers = []
        for prompt in prompts:
            ids = torch.tensor([prompt])
            out = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False, eos_token_id=None,
                pad_token_id=0,
            )  # fmt: skip
            answers.append(out[0, len(prompt) :].tolist())
        return answers

    def answered(self, name: str, prompts: list[list[int]], count: int, tokens: int) -> dict[str, Any]:
        """The engine's answers to all prompts at once, from a cache of about so many tokens."""
        from tests.engines.child import fold, generation

        engine = self.open(name, tokens)
        requests = [generation(prompt, count) for prompt in prompts]
        for request in requests:
            engine.add(request)
        deltas = []
        while engine.busy():
            deltas += engine.step()
        result = fold(deltas)
        kind = type(engine._forward).__name__
        engine.close()
        return {"kind": kind, "answers": [result[request.id] for request in requests]}


def config_of(folder: Path, cache_bytes: int) -> Any:
    from openllm.engines.base import EngineConfig

    return EngineConfig(
        engine="transformers", path=str(folder), name=folder.name, dtype="float32", quantization="none",
        context=256, max_sequences=8, kv_cache_bytes=cache_bytes, threads=2, cache=str(folder.parent),
    )  # fmt: skip
