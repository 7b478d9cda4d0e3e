"""A model so small that the real tools quantize it in seconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from openllm.chat.tokenizer import ChatTokenizer, load_tokenizer

SHAPE = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "max_position_embeddings": 1024,
}


@pytest.fixture(scope="session")
def tokenizer(smollm2_gguf: Path) -> ChatTokenizer:
    """SmolLM2's."""
    return load_tokenizer(smollm2_gguf)


@pytest.fixture(scope="session")
def tiny(tokenizer: ChatTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a Llama of two layers, its weights random, and SmolLM2's tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("models") / "tiny"
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=tokenizer.vocabulary, tie_word_embeddings=True, **SHAPE)
    LlamaForCausalLM(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer.backend.to_str())
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **tokenizer.special_tokens}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text(tokenizer.chat_template or "")
    return folder
