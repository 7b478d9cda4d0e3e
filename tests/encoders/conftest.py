"""The real all-MiniLM-L6-v2, and encoders in processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from openllm.chat.tokenizer import ChatTokenizer, load_tokenizer
from openllm.engines.base import EncoderSteps, EngineConfig
from openllm.engines.encoding import Encoding
from openllm.recipes.registry import Registry, shipped_folder
from openllm.weights.fetch import fetch
from openllm.weights.inspect import manifests
from openllm.weights.progress import QuietReporter
from openllm.weights.settings import HubSettings
from openllm.weights.store import Store, default_root
from tests.engines.child import Child

Encode = Callable[[EngineConfig, list[Encoding]], dict[int, list[float]]]


@pytest.fixture(scope="session")
def minilm(store: Store) -> Path:
    """The folder of the model, fetched as a user would fetch it."""
    hub = HubSettings(cache=str(default_root() / "no-hub"))
    found = manifests("all-minilm", Registry.open([shipped_folder()]), hub=hub, offline=True)
    return Path(fetch(found[0], store, reporter=QuietReporter(), offline=False, hub=hub).path)


@pytest.fixture(scope="session")
def tokenizer(minilm: Path) -> ChatTokenizer:
    return load_tokenizer(minilm)


@pytest.fixture(scope="session")
def encode() -> Iterator[Encode]:
    """Encode texts with an encoder of that configuration, started once; errors are raised."""
    children: dict[bytes, Child] = {}

    def run(config: EngineConfig, texts: list[Encoding]) -> dict[int, list[float]]:
        key = msgspec.json.encode(config)
        if key not in children:
            children[key] = Child(_open, config)
        found: dict[int, list[float]] = children[key].ask(_encode, texts)
        return found

    yield run
    for child in children.values():
        child.close()


def configuration(
    folder: Path, steps: EncoderSteps, engine: str = "openvino", **changes: Any
) -> EngineConfig:
    settings: dict[str, Any] = {
        "engine": engine, "path": str(folder), "name": "encoder", "dtype": "float32", "quantization": "none",
        "context": 256, "max_sequences": 64, "kv_cache_bytes": 0, "threads": 2, "cache": "", "encoder": steps,
    }  # fmt: skip
    return EngineConfig(**{**settings, **changes})


def _open(config: EngineConfig) -> Any:
    from openllm.engines.open import open_encoder

    return open_encoder(config, lambda _: None)


def _encode(encoder: Any, texts: list[Encoding]) -> dict[int, list[float]]:
    from array import array

    for text in texts:
        encoder.add(text)
    found: dict[int, list[float]] = {}
    while encoder.busy():
        for vector in encoder.step():
            assert not vector.error, vector.error
            assert vector.id not in found
            found[vector.id] = array("f", vector.values).tolist()
    return found
