"""Recipe files for the tests, as text."""

from __future__ import annotations

from pathlib import Path

GOOD = """\
family: parrot
title: Parrot
publisher: Aviary
license: apache-2.0
aliases: [polly]
default: 7b-chat
models:
  - name: 7b-chat
    aliases: [parrot-seven]
    context: 4096
    shape:
      architecture: LlamaForCausalLM
      parameters: 7000000000
      layers: 32
      hidden: 4096
      heads: 32
      kv_heads: 8
      head_size: 128
      vocabulary: 32000
    variants:
      - name: bf16
        dtype: bfloat16
        engines: [vllm, transformers]
        source: {hub: Aviary/Parrot-7B-Chat}
      - name: q8_0
        format: gguf
        quantization: gguf-q8_0
        engines: [openvino]
        source:
          hub: Aviary/Parrot-7B-Chat-GGUF
          files: [parrot-7b-chat.Q8_0.gguf]
"""


def with_line(old: str, new: str) -> str:
    """The good file with one piece of its text replaced."""
    assert old in GOOD
    return GOOD.replace(old, new, 1)


def second_model(name: str, aliases: str = "[]") -> str:
    """The good file with one more model."""
    block = GOOD[GOOD.index("  - name: 7b-chat") :]
    return GOOD + block.replace("7b-chat", name, 1).replace("[parrot-seven]", aliases)


def put(folder: Path, name: str, text: str) -> Path:
    """Write a recipe file, making its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def line_of(text: str, piece: str) -> int:
    """The line (from 1) of the first occurrence of ``piece``."""
    return text[: text.index(piece)].count("\n") + 1
