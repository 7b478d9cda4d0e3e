"""The engines under test, each started once for all tests that use it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import pytest

from openllm.chat.tokenizer import load_tokenizer
from openllm.engines.base import EngineConfig
from openllm.weights.store import default_root
from tests.engines.child import Child, EngineChild
from tests.engines.reference import Reference

CONTEXT = 2048
LENGTHS = (1, 2, 3, 5, 8, 13, 21, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 256, 370, 1100)
ANSWER = 12

# Arithmetic and weights that leave nothing to rounding but the order of sums.
EXACT: dict[str, dict[str, Any]] = {
    "openvino": {"dtype": "float32", "kv_cache_dtype": "float32"},
    "vllm": {"dtype": "float32"},
    "transformers": {"dtype": "float32"},
}
# What `openllm start smollm2` chooses.
DEFAULT: dict[str, dict[str, Any]] = {
    "openvino": {"dtype": "auto", "quantization": "int8"},
    "vllm": {"dtype": "bfloat16"},
    "transformers": {"dtype": "float32"},
}

Start = Callable[[EngineConfig], EngineChild]


@pytest.fixture(scope="session")
def conversions() -> Path:
    """The user's cache of converted models, so that a conversion is made once."""
    return default_root() / "converted"


@pytest.fixture(scope="session")
def start() -> Iterator[Start]:
    """Start an engine, or hand out the one with that configuration that runs already."""
    children: dict[bytes, EngineChild] = {}

    def get(config: EngineConfig) -> EngineChild:
        key = msgspec.json.encode(config)
        if key not in children:
            children[key] = EngineChild(config)
        return children[key]

    yield get
    for child in children.values():
        child.close()


@pytest.fixture(scope="session")
def configure(smollm2_gguf: Path, conversions: Path) -> Callable[..., EngineConfig]:
    def make(engine: str, **changes: Any) -> EngineConfig:
        settings: dict[str, Any] = {
            "engine": engine, "path": str(smollm2_gguf), "name": "smollm2", "dtype": "auto",
            "quantization": "none", "context": CONTEXT, "max_sequences": 16, "kv_cache_bytes": 200 << 20,
            "threads": 2, "cache": str(conversions), "tokenizer": str(smollm2_gguf),
        }  # fmt: skip
        if engine == "echo":
            settings["path"] = "echo"
        return EngineConfig(**{**settings, **changes})

    return make


@pytest.fixture(scope="session")
def text_ids(smollm2_gguf: Path) -> list[int]:
    text = Path(__file__).with_name("perplexity_text.txt").read_text()
    return load_tokenizer(smollm2_gguf).encode(text, add_special_tokens=False)


@pytest.fixture(scope="session")
def prompts(text_ids: list[int]) -> list[list[int]]:
    """Twenty prompts, around the sizes of blocks and chunks, one of over 1,000 tokens."""
    endless = text_ids * 4
    return [endless[index * 7 : index * 7 + length] for index, length in enumerate(LENGTHS)]


@pytest.fixture(scope="session")
def reference(smollm2_gguf: Path, conversions: Path) -> Iterator[Child]:
    """transformers with the same weights in float32."""
    if find_spec("accelerate") is None:
        pytest.skip("transformers cannot read GGUF files without accelerate")
    child = Child(Reference, smollm2_gguf, conversions)
    yield child
    child.close()
