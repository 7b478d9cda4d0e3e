"""The transformers engine beyond the contract: architectures, a cache that is too small, bitsandbytes."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from openllm.engines.base import EngineConfig
from openllm.errors import CorruptFile, EngineMissing, UnsupportedOption
from tests.engines.architectures import CONFIGS, VOCABULARY, Architectures, config_of
from tests.engines.child import Child, EngineChild, generation
from tests.engines.conftest import Start
from tests.engines.reference import Reference

pytestmark = pytest.mark.skipif(
    find_spec("transformers") is None or find_spec("torch") is None, reason="transformers is not installed"
)

PROMPTS = [
    [(7 * n + 3 * k) % VOCABULARY for k in range(length)] for n, length in enumerate((1, 5, 9, 30, 12))
]
APART = {"BloomConfig", "MambaConfig"}


@pytest.fixture(scope="module")
def architectures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    child = Child(Architectures, tmp_path_factory.mktemp("architectures"))
    yield child
    child.close()


@pytest.mark.parametrize("name", CONFIGS)
def test_answers_are_those_of_generate(architectures: Child, name: str) -> None:
    """Attention that is ours where it is right, each sequence apart where it is not."""
    expected = architectures.ask(Architectures.generated, name, PROMPTS, 24)
    found = architectures.ask(Architectures.answered, name, PROMPTS, 24, 400)
    assert found["kind"] == ("ApartForward" if name in APART else "RaggedForward")
    assert found["answers"] == [(answer, "length") for answer in expected]


@pytest.mark.parametrize("name", ["LlamaConfig", "BloomConfig"])
def test_sequences_make_room_for_each_other(architectures: Child, name: str) -> None:
    """The cache holds less than all of them together: some begin again, and none is another for it."""
    expected = architectures.ask(Architectures.generated, name, PROMPTS, 24)
    found = architectures.ask(Architectures.answered, name, PROMPTS, 24, 70)
    assert found["answers"] == [(answer, "length") for answer in expected]


@pytest.mark.parametrize("name", ["LlamaConfig", "BloomConfig"])
def test_a_sequence_larger_than_the_cache_ends_with_an_error(architectures: Child, name: str) -> None:
    found = architectures.ask(Architectures.answered, name, [PROMPTS[3], PROMPTS[0]], 24, 40)
    assert [finish for _, finish in found["answers"]] == ["error", "length"]


def test_missing_weights_are_not_made_up(architectures: Child, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(architectures.ask(Architectures.make, "LlamaConfig"), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 4}))
    with pytest.raises(CorruptFile, match=r"layers\.3\."):
        EngineChild(config_of(folder, 1 << 20))


def test_an_architecture_that_it_has_not(architectures: Child, tmp_path: Path) -> None:
    folder = tmp_path / "strange"
    shutil.copytree(architectures.ask(Architectures.make, "LlamaConfig"), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "strange"}))
    with pytest.raises(UnsupportedOption, match="strange") as refused:
        EngineChild(config_of(folder, 1 << 20))
    assert refused.value.hint


class TestBitsAndBytes:
    @pytest.mark.parametrize("quantization", ["int8", "int4"])
    def test_layers_are_quantized_and_answers_are_sane(
        self,
        start: Start,
        configure: Callable[..., EngineConfig],
        text_ids: list[int],
        reference: Child,
        quantization: str,
    ) -> None:
        if find_spec("bitsandbytes") is None:
            pytest.skip("bitsandbytes is not installed")
        engine = start(configure("transformers", dtype="float32", quantization=quantization))
        assert (
            engine.ask(_linear_layers)
            == {"int8": {"Linear8bitLt": 210}, "int4": {"Linear4bit": 210}}[quantization]
        )
        forms = engine.ask(_forms)
        assert forms.keys() == {quantization}
        assert forms[quantization] == 106_168_320  # all that is no embedding
        worse = _loss(engine, text_ids) - math.log(reference.ask(Reference.perplexity, text_ids))
        assert worse < {"int8": 0.1, "int4": 0.4}[quantization]

    def test_without_the_package(self, configure: Callable[..., EngineConfig]) -> None:
        """In a process that cannot see it."""
        with pytest.raises(EngineMissing) as missing:
            Child(_opened_without, configure("transformers", dtype="float32", quantization="int8"))
        assert "openllm[transformers]" in str(missing.value.hint)


def _opened_without(config: EngineConfig) -> Any:
    import importlib.metadata
    import sys

    from openllm.engines.open import open_engine

    sys.modules["bitsandbytes"] = None  # type: ignore[assignment]
    found = importlib.metadata.version

    def version(distribution_name: str) -> str:
        if distribution_name == "bitsandbytes":
            raise importlib.metadata.PackageNotFoundError(distribution_name)
        return found(distribution_name)

    importlib.metadata.version = version
    return open_engine(config, lambda _: None)


def _linear_layers(engine: Any) -> dict[str, int]:
    kinds = [type(module).__name__ for module in engine._model.model.modules()]
    return {kind: kinds.count(kind) for kind in set(kinds) if kind.startswith("Linear")}


def _forms(engine: Any) -> dict[str, int]:
    forms: dict[str, int] = engine.weight_forms()
    return forms


def _loss(engine: EngineChild, text: list[int]) -> float:
    engine.add(generation(text, 1, prompt_logprobs=0))
    (delta,) = [delta for delta in engine.steps() if delta.prompt_logprobs]
    assert delta.prompt_logprobs is not None
    return -sum(place[0][1] for place in delta.prompt_logprobs) / len(delta.prompt_logprobs)
