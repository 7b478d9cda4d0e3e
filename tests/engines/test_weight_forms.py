"""What is loaded is what the plan says: looked up in the weights, whatever was set."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from openllm.engines.base import EngineConfig
from openllm.engines.weight_forms import check_forms
from openllm.errors import RunnerFailed
from tests.engines.child import Child
from tests.engines.conftest import EXACT, Start

Configure = Callable[..., EngineConfig]
MATRICES = 106_168_320  # numbers of SmolLM2-135M that are in no embedding


@pytest.mark.parametrize(
    ("quantization", "forms", "good"),
    [
        ("int8", {"int8": 70, "float32": 30}, True),
        ("int8", {"int8": 30, "float32": 70}, False),
        ("int8", {"int4": 100}, False),
        ("int4", {"int4": 30, "int8": 70}, True),
        ("int4", {"int8": 100}, False),
        ("fp8", {"int8": 100}, True),
        ("w4a16", {"unknown": 60, "bfloat16": 40}, True),
        ("gptq", {"int4": 90, "float16": 10}, True),
        ("none", {"float16": 100}, True),
        ("none", {"int8": 100}, False),
        ("int8", {}, True),
        ("gguf-q4_1", {"float32": 9}, True),
    ],
)
def test_most_of_the_weights_decide(
    configure: Configure, quantization: str, forms: dict[str, int], good: bool
) -> None:
    config = configure("echo", quantization=quantization)
    if good:
        check_forms(config, forms)
    else:
        with pytest.raises(RunnerFailed, match=r"\d+ % of its weights") as failed:
            check_forms(config, forms)
        assert failed.value.hint


@pytest.mark.parametrize("engine", ["vllm", "transformers"])
def test_floats_are_seen_as_floats(start: Start, configure: Configure, engine: str) -> None:
    if find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed")
    assert start(configure(engine, **EXACT[engine])).ask(_forms) == {"float32": MATRICES}


@pytest.mark.parametrize(("quantization", "form"), [("int8", "int8"), ("none", "float32")])
def test_an_ir(start: Start, configure: Configure, quantization: str, form: str) -> None:
    changes = EXACT["openvino"] if quantization == "none" else {"quantization": "int8"}
    forms = start(configure("openvino", **changes)).ask(_forms)
    assert forms[form] >= MATRICES
    assert forms[form] > 0.99 * sum(forms.values())


@pytest.mark.parametrize("mode", ["int8_per_channel_weight_only", "nvfp4_per_token"])
def test_modes_that_vllm_takes_and_does_not_apply(
    smollm2_gguf: Path, conversions: Path, configure: Configure, mode: str
) -> None:
    """Forced past the plan, which never asks for them."""
    if find_spec("vllm") is None:
        pytest.skip("vllm is not installed")
    said = "int8" if mode.startswith("int8") else "nvfp4"
    config = configure("vllm", dtype="bfloat16", quantization=said)
    with pytest.raises(RunnerFailed, match=f"in {said}, but 100 % of its weights are not: they are bfloat16"):
        Child(_forced, config, mode, smollm2_gguf, conversions)


def _forced(config: EngineConfig, mode: str, gguf: Path, conversions: Path) -> Any:
    import msgspec

    import openllm.engines.vllm_engine as module
    from openllm.engines.open import open_engine
    from openllm.engines.safetensors_convert import converted

    made = module._engine_args

    def with_mode(config: EngineConfig, path: Path) -> Any:
        args = made(config, path)
        args.quantization = mode
        return args

    module._engine_args = with_mode
    folder = converted(gguf, conversions, lambda _: None)
    return open_engine(msgspec.structs.replace(config, path=str(folder)), lambda _: None)


def _forms(engine: Any) -> dict[str, int]:
    forms: dict[str, int] = engine.weight_forms()
    return forms
