"""A tiny random llama: so little to compute that what is measured is the server."""

from __future__ import annotations

import shutil
from pathlib import Path

SEED = 20
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def make_tiny_model(folder: Path, tokenizer_from: Path) -> None:
    """Write config and safetensors (2 layers, hidden size 64, bfloat16) and the tokenizer of another model.

    The output matrix is its own and the weights are spread wide: a tied or narrow one repeats a single token,
    and detokenizing one token over and over would flatter a server.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

    like = AutoConfig.from_pretrained(tokenizer_from)
    config = LlamaConfig(
        vocab_size=like.vocab_size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        initializer_range=0.5,
        tie_word_embeddings=False,
        bos_token_id=like.bos_token_id,
        eos_token_id=like.eos_token_id,
        pad_token_id=like.pad_token_id,
    )
    torch.manual_seed(SEED)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    for name in TOKENIZER_FILES:
        shutil.copy(tokenizer_from / name, folder / name)
