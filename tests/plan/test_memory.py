"""The arithmetic of memory: known sizes, and what must hold for any model."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openllm.errors import DoesNotFit
from openllm.machine import Machine, named
from openllm.memory import (
    BLOCK_TOKENS,
    Footprint,
    fit,
    kv_bytes,
    kv_bytes_per_token,
    kv_share,
    longest_context,
    overhead_terms,
    readable,
    weight_bytes,
)
from openllm.plan import Overrides, Plan, footprint, make_plan
from openllm.weights.manifest import Shape
from tests.plan.examples import (
    ALL,
    DEEPSEEK_LITE,
    GIB,
    GPT_OSS_20B,
    LLAMA,
    LLAMA_8B,
    LLAMA_70B,
    LLAMA_LARGE,
    SMOLLM2,
    cpu_host,
    manifest,
)
from tests.plan.golden_plans import MODELS, golden, path

LLAMA_TORCH = (msgspec.structs.replace(SMOLLM2[0], engines=("transformers",)),)
DTYPES = st.sampled_from(["float32", "bfloat16", "u8", "fp8"])
TOKENS = st.integers(1, 200_000)


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    layers = draw(st.integers(1, 80))
    windowed = draw(st.one_of(st.none(), st.integers(1, layers)))
    kv_heads = draw(st.sampled_from([1, 2, 3, 8, 16]))
    return Shape(
        architecture="LlamaForCausalLM",
        parameters=draw(st.integers(10**6, 10**10)),
        layers=layers,
        hidden=draw(st.integers(64, 8192)),
        heads=kv_heads * draw(st.sampled_from([1, 2, 4])),
        kv_heads=kv_heads,
        head_size=draw(st.sampled_from([64, 128, 256])),
        vocabulary=draw(st.integers(1000, 200_000)),
        sliding_window=draw(st.integers(128, 8192)) if windowed else None,
        windowed_layers=windowed,
        attention_layers=draw(st.one_of(st.none(), st.integers(1, layers))),
        latent_kv=draw(st.one_of(st.none(), st.just(576))),
    )


def test_known_sizes() -> None:
    assert kv_bytes_per_token(LLAMA_8B, "bfloat16") == 128 * 1024  # as published for Llama 3.1 8B
    assert kv_bytes_per_token(LLAMA_70B, "float16") == 320 * 1024
    assert kv_bytes_per_token(DEEPSEEK_LITE, "bfloat16") == 27 * 576 * 2  # MLA: one latent a layer
    assert kv_bytes_per_token(LLAMA_8B, "u8") == 32 * 2 * 8 * (128 + 8)
    assert weight_bytes(LLAMA_8B.parameters, 16) == 16_060_522_496
    assert weight_bytes(1000, 8.5) == 1062


def test_windowed_layers_stop_growing() -> None:
    layer = 2 * 8 * 64 * 2
    full, window, spare = 12 * layer * 131_072, 12 * layer * (128 + BLOCK_TOKENS), 24 * layer * BLOCK_TOKENS
    assert kv_bytes(GPT_OSS_20B, 131_072, "bfloat16", vllm=True) == full + window + spare
    assert kv_bytes(GPT_OSS_20B, 131_072, "bfloat16", vllm=False) == 2 * full


def test_hybrids_cache_in_some_layers_only() -> None:
    hybrid = msgspec.structs.replace(LLAMA_8B, attention_layers=4)
    assert kv_bytes_per_token(hybrid, "bfloat16") == 4 * kv_bytes_per_token(LLAMA_8B, "bfloat16") // 32
    windowed = msgspec.structs.replace(hybrid, sliding_window=1024, windowed_layers=3)
    assert kv_bytes(windowed, 100_000, "bfloat16", vllm=True) < kv_bytes(
        hybrid, 100_000, "bfloat16", vllm=True
    )


def test_shares_of_ranks() -> None:
    assert kv_share(LLAMA_8B, 4) == 0.25
    assert kv_share(LLAMA_8B, 16) == 0.125  # fewer heads than ranks: each keeps one whole head
    assert kv_share(DEEPSEEK_LITE, 4) == 1.0


def test_readable() -> None:
    assert [readable(size) for size in (0, 1023, 1 << 20, 3 << 29, 5 << 40)] == [
        "0 B", "1023 B", "1.0 MiB", "1.5 GiB", "5120.0 GiB",
    ]  # fmt: skip


def test_fit() -> None:
    footprint = Footprint(weights=5, kv_cache=3, overhead=2)
    assert fit(footprint, 10).ok
    assert fit(footprint, 9).missing == 1
    assert fit(footprint, 11).missing == 0


@given(shapes(), TOKENS, TOKENS, DTYPES, st.booleans())
def test_more_tokens_never_take_less(shape: Shape, one: int, other: int, dtype: str, vllm: bool) -> None:
    short, long = sorted((one, other))
    assert kv_bytes(shape, short, dtype, vllm=vllm) <= kv_bytes(shape, long, dtype, vllm=vllm)
    spare = kv_bytes(shape, 0, dtype, vllm=True)  # a block that vLLM keeps for itself
    assert kv_bytes(shape, long, dtype, vllm=True) <= kv_bytes(shape, long, dtype, vllm=False) + spare
    assert kv_bytes(shape, long, dtype, vllm=False) >= long * kv_bytes_per_token(shape, dtype)


@given(shapes(), TOKENS)
def test_wider_numbers_take_more(shape: Shape, tokens: int) -> None:
    sizes = [kv_bytes(shape, tokens, dtype, vllm=False) for dtype in ("u8", "float16", "float32")]
    assert sizes == sorted(sizes)


@given(shapes(), st.integers(0, 64 * GIB), TOKENS, DTYPES, st.booleans())
def test_longest_context_fits_and_is_the_longest(
    shape: Shape, budget: int, limit: int, dtype: str, vllm: bool
) -> None:
    found = longest_context(shape, budget, dtype, vllm=vllm, limit=limit)
    assert 0 <= found <= limit
    if found:
        assert kv_bytes(shape, found, dtype, vllm=vllm) <= budget
    if found < limit:
        assert kv_bytes(shape, min(limit, found + BLOCK_TOKENS), dtype, vllm=vllm) > budget


@given(shapes(), st.integers(1, 1000))
def test_overhead_grows_with_the_batch(shape: Shape, width: int) -> None:
    for engine, device in (("transformers", "cpu"), ("vllm", "cpu"), ("vllm", "cuda")):
        assert overhead_bytes(shape, engine, device, width) < overhead_bytes(shape, engine, device, width + 1)


def overhead_bytes(shape: Shape, engine: str, device: str, width: int) -> int:
    return sum(term.bytes for term in overhead_terms(shape, engine, device, width, eager=device == "cpu"))


def _plan(shape: Shape, machine: Machine, context: int | None = None) -> Plan | None:
    model = manifest("m", "v", shape, format="gguf", quantization="gguf-q4_0", engines=("openvino", "vllm"))
    try:
        return make_plan((model,), machine, Overrides(context=context), installed=ALL)
    except DoesNotFit:
        return None


@given(shapes(), st.integers(1, 64), st.integers(1, 8192))
def test_a_plan_fits_and_holds_one_whole_context(shape: Shape, free: int, context: int) -> None:
    host = msgspec.structs.replace(cpu_host(free=free * GIB), memory=64 * GIB)
    made = _plan(shape, host, max(16, context))
    if made is None:
        return
    vllm = made.engine == "vllm"
    dtype = made.dtype if vllm else "u8"
    assert made.context == max(16, context)
    assert made.kv_cache_bytes >= kv_bytes(shape, made.context, dtype, vllm=vllm)
    overhead = overhead_bytes(shape, made.engine, "cpu", made.concurrency)
    assert made.weight_bytes + made.kv_cache_bytes + overhead <= host.free_memory


@given(shapes(), st.integers(1, 63), st.integers(1, 63))
def test_more_memory_never_plans_less(shape: Shape, one: int, other: int) -> None:
    small, large = sorted((one, other))
    host = cpu_host()
    plans = [
        _plan(shape, msgspec.structs.replace(host, memory=64 * GIB, free_memory=free * GIB))
        for free in (small, large)
    ]
    if plans[0] is None:
        return
    assert plans[1] is not None
    if plans[0].engine == plans[1].engine:
        assert plans[0].context <= plans[1].context
        assert plans[0].kv_cache_bytes <= plans[1].kv_cache_bytes
        assert plans[0].concurrency <= plans[1].concurrency


@pytest.mark.parametrize("model", MODELS)
def test_golden_plans(model: str) -> None:
    """Every sum of five large models on five machines: a change is meant, or it is a mistake."""
    assert golden(model) == path(model).read_text(), "if it is meant: make golden"


def test_the_arithmetic_adds_up() -> None:
    made = make_plan(SMOLLM2, cpu_host(), Overrides(), installed=ALL)
    terms = {term.what: term.bytes for term in made.arithmetic}
    parts = ("weights", "engine", "activations", "logits", "KV cache")
    assert terms["in all"] == sum(terms[part] for part in parts)
    assert terms["left for the KV cache"] == terms["usable"] - sum(terms[part] for part in parts[:-1])
    assert terms["weights"] == made.weight_bytes
    assert terms["KV cache of a context"] == terms["KV cache of a token"] * made.context


@pytest.mark.parametrize("quantize", ["int8", "none"])
def test_what_several_models_reckon_with_is_what_the_plan_was_sized_with(quantize: str) -> None:
    made = make_plan(
        SMOLLM2, cpu_host(), Overrides(backend="openvino", quantize=quantize, context=2048), installed=ALL
    )
    (whole,) = [term.bytes for term in made.arithmetic if term.what == "in all"]
    assert footprint(made).total == whole


def test_what_would_fit_is_told() -> None:
    with pytest.raises(DoesNotFit) as caught:
        make_plan(LLAMA_LARGE, named("rtx4090"), Overrides(variant="bf16", device="cuda"), installed=ALL)
    assert "It would fit h100x2 " in (caught.value.hint or "")
    with pytest.raises(DoesNotFit) as caught:
        make_plan(LLAMA, named("t4"), Overrides(variant="bf16", device="cuda"), installed=ALL)
    assert "Without --variant, awq would fit." in (caught.value.hint or "")


def test_openvino_computes_with_a_copy_of_its_own() -> None:
    """Seen in its process: the plugin packs the matrices, and converts floats before that."""

    def terms(features: tuple[str, ...], **options: object) -> dict[str, int]:
        host = cpu_host(features=features)
        overrides = Overrides(backend="openvino", **options)  # type: ignore[arg-type]
        made = make_plan(SMOLLM2, host, overrides, installed=ALL)
        return {term.what: term.bytes for term in made.arithmetic}

    rounded = terms(("avx2",))
    assert rounded["mapped file"] == rounded["weights"] == int(134_515_008 * 8.1 / 8)
    floats = terms(("avx2",), quantize="none")
    assert floats["converted floats"] == floats["weights"] == 134_515_008 * 4
    assert terms(("amx_bf16",), quantize="none")["converted floats"] == 134_515_008 * 2
    exact = terms(("avx2",), quantize="none", dtype="float32")
    assert exact["mapped file"] == exact["weights"] == 134_515_008 * 4
    assert "converted floats" not in exact


def test_floats_that_were_rounded_stay_mapped() -> None:
    shown = {}
    for quantize in ("none", "int8"):
        made = make_plan(
            LLAMA_TORCH, cpu_host(), Overrides(backend="transformers", quantize=quantize), installed=ALL
        )
        shown[quantize] = {term.what: term.bytes for term in made.arithmetic}
    assert "mapped file" not in shown["none"]
    assert shown["int8"]["mapped file"] == 4 * 134_515_008
