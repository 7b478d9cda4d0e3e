"""Which engine runs which weights on which hardware: the one table that plans, messages and docs are made from.

``MODES`` says what a quantization is, ``ROWS`` what becomes of it on an engine and a device. Where nothing was measured
a row names its source. ``docs/quantization.md`` is generated from both.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from openllm.weights.encoder_facts import ENCODER_TASKS, is_built
from openllm.weights.manifest import Format, Manifest

How = Literal["as stored", "rewritten once", "at each start"]
FLOAT_GGUF = ("gguf-f32", "gguf-bf16", "gguf-f16")


class Mode(msgspec.Struct, frozen=True, kw_only=True):
    """A quantization: its ``name`` in recipes and for --quantize, further ``words`` that ask for it, what it is,
    the ``bits`` of a weight with the scales of its group, and how it shows in a model's files."""

    name: str
    what: str
    bits: float
    shows: str
    words: tuple[str, ...] = ()


# Best quality first: by the perplexities in ROWS where there are some, then by bits. Bits of GGUF's types are those of
# ggml's block layouts, of the 4 bit formats those of their usual groups of 128 (mxfp4: 32, nvfp4: 16).
_CONFIG = "`quantization_config`"
MODES = (
    Mode(name="none", what="floats of 16 or 32 bits", bits=16, shows="no quantization"),
    Mode(name="gguf-f32", what="GGUF, float32", bits=32, shows="GGUF file type"),
    Mode(name="gguf-bf16", what="GGUF, bfloat16", bits=16, shows="GGUF file type"),
    Mode(name="gguf-f16", what="GGUF, float16", bits=16, shows="GGUF file type"),
    Mode(name="gguf-q8_0", what="GGUF, 8 bit, groups of 32", bits=8.5, shows="GGUF file type"),
    Mode(name="int8", what="8 bit integer weights, a scale a row", bits=8.1,
         shows=f"u8 or i8 constants of an IR; {_CONFIG} of compressed-tensors without activations"),
    Mode(name="gptq-int8", what="GPTQ, 8 bit", bits=8.2, shows=f"{_CONFIG}, or `quantize_config.json`: bits 8",
         words=("gptq",)),
    Mode(name="fp8", what="8 bit floats, weights and activations", bits=8.1,
         shows=f"{_CONFIG}: fp8, fbgemm_fp8, modelopt, compressed-tensors"),
    Mode(name="bnb-int8", what="bitsandbytes LLM.int8(), saved", bits=8.1, shows=f"{_CONFIG}: load_in_8bit",
         words=("bitsandbytes", "int8")),
    Mode(name="w8a8", what="8 bit integers, weights and activations", bits=8.1,
         shows=f"{_CONFIG} of compressed-tensors with 8 bit activations"),
    Mode(name="gguf-q6_k", what="GGUF, 6 bit", bits=6.6, shows="GGUF file type"),
    Mode(name="gguf-q5_k_m", what="GGUF, 5 bit", bits=5.7, shows="GGUF file type"),
    Mode(name="mxfp4", what="4 bit floats in groups of 32 (OCP)", bits=4.25, shows=f"{_CONFIG}: mxfp4"),
    Mode(name="gguf-q4_k_m", what="GGUF, 4 bit", bits=4.9, shows="GGUF file type"),
    Mode(name="int4", what="4 bit integer weights in groups", bits=4.5, shows="u4, i4 or nf4 constants of an IR"),
    Mode(name="nvfp4", what="4 bit floats in groups of 16 (NVIDIA)", bits=4.5,
         shows=f"{_CONFIG} of modelopt or compressed-tensors"),
    Mode(name="bnb-nf4", what="bitsandbytes NF4 or FP4, saved", bits=4.5, shows=f"{_CONFIG}: load_in_4bit",
         words=("bitsandbytes", "int4")),
    Mode(name="awq", what="AWQ, 4 bit", bits=4.16, shows=f"{_CONFIG}, or `quant_config.json`"),
    Mode(name="w4a16", what="4 bit integer weights of compressed-tensors", bits=4.16,
         shows=f"{_CONFIG} of compressed-tensors: 4 bit, pack-quantized"),
    Mode(name="gptq", what="GPTQ, 4 bit", bits=4.16, shows=f"{_CONFIG}, or `quantize_config.json`: bits 4"),
    Mode(name="gguf-q4_1", what="GGUF, 4 bit, older", bits=5.0, shows="GGUF file type"),
    Mode(name="gguf-q4_0", what="GGUF, 4 bit, older", bits=4.5, shows="GGUF file type"),
)  # fmt: skip
_MODES = {mode.name: mode for mode in MODES}
_QUALITY = {mode.name: at for at, mode in enumerate(MODES)}


class Models(msgspec.Struct, frozen=True, kw_only=True):
    """The models that a row is for. ``classes`` are names in config.json, ``endings`` ends of such names, empty: any;
    ``built`` those encoders whose graph the OpenVINO engine makes; ``plain``: neither experts nor windows."""

    what: str = "any that the engine knows"
    classes: frozenset[str] = frozenset()
    endings: tuple[str, ...] = ()
    task: Literal["any", "text", "vectors"] = "any"
    built: bool = False
    plain: bool = False

    def hold(self, manifest: Manifest) -> bool:
        """Is this one of them?"""
        shape = manifest.shape
        encodes = manifest.task in ENCODER_TASKS
        return (
            self.task in ("any", "vectors" if encodes else "text")
            and (not self.classes or shape.architecture in self.classes)
            and (not self.endings or shape.architecture.endswith(self.endings))
            and (not self.built or is_built(shape.architecture))
            and not (self.plain and (shape.experts or shape.sliding_window))
        )


_ANY = Models()
_TEXT = Models(what="any that makes text", task="text")
_CAUSAL = Models(what="any causal language model", task="text", endings=("ForCausalLM", "LMHeadModel"))
_OPENVINO_GGUF = Models(
    what="Llama, Mistral, Qwen2, Qwen3; dense, without windows", task="text", plain=True,
    classes=frozenset({"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"}),
)  # fmt: skip
_ENCODERS = Models(what="BERT, RoBERTa, XLM-R, DistilBERT, MPNet", task="vectors", built=True)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of weights on an engine and a device.

    ``stored`` are the modes of the files, ``runs`` what the weights are in memory and ``how`` they come to be that.
    ``capability`` is the least of an NVIDIA GPU, ``amd`` whether AMD's GPUs do; ``packages`` are needed beside the
    engine, as ``machine.engines_installed`` names them. ``basis`` is what was measured or where it is written.
    ``refused`` says why it cannot be, "" if it can.
    """

    engine: str
    device: str
    files: Format
    stored: tuple[str, ...]
    runs: str
    how: How = "as stored"
    models: Models = _ANY
    capability: tuple[int, int] | None = None
    amd: bool = False
    packages: tuple[str, ...] = ()
    kernels: str = ""
    basis: str = ""
    refused: str = ""

    @property
    def possible(self) -> bool:
        return not self.refused


def mode(name: str) -> Mode | None:
    """The mode of that name, None for one that is not known."""
    return _MODES.get(name)


def words() -> tuple[str, ...]:
    """Every word that --quantize can mean something by, best quality first."""
    return tuple(dict.fromkeys(word for each in MODES for word in (each.name, *each.words)))


def quality(name: str) -> int:
    """Where a mode stands among all, 0 is the best; unknown ones stand last."""
    return max((_QUALITY.get(part, len(MODES)) for part in name.split("+")), default=len(MODES))


def bits(name: str) -> float | None:
    """Bits of a weight, its scales included; a dtype counts as a mode. None for what is not known."""
    dtype = {"float32": 32.0, "float16": 16.0, "bfloat16": 16.0}.get(name)
    return dtype or (_MODES[name].bits if name in _MODES else None)


def words_of(name: str) -> frozenset[str]:
    """The --quantize words for weights that are stored in this mode."""
    return frozenset({name, *loose_words(name)})


def loose_words(name: str) -> tuple[str, ...]:
    """Of these words, those that are not the mode's own name."""
    return _MODES[name].words if name in _MODES else ()


def is_float(name: str) -> bool:
    """Are weights of this mode not quantized?"""
    return name in ("none", *FLOAT_GGUF)


def is_wasteful(stored: str, runs: str) -> bool:
    """Do weights take more memory as they run than in their files, for no more quality?"""
    usual = 4.5  # of a mode that is not known
    return not is_float(stored) and (bits(runs) or usual) > (bits(stored) or usual) + 0.5


def find(manifest: Manifest, engine: str, device: str) -> list[Row]:
    """The rows for these weights, those that are possible first, the default before what must be asked for.

    Weights of several modes ("fp8+nvfp4") are possible as they are stored where each mode is; the row is then that
    of the most demanding. An empty list: nothing is known of such weights.
    """
    parts = manifest.quantization.split("+")
    found = [_rows(manifest, part, engine, device) for part in parts]
    if len(parts) == 1:
        return found[0]
    stored = [next((row for row in rows if row.how == "as stored"), None) for rows in found]
    known = [row for row in stored if row is not None]
    if len(known) < len(stored):
        return []
    worst = max(known, key=lambda row: (bool(row.refused), row.capability or (0, 0)))
    amd = all(row.amd for row in known)
    return [msgspec.structs.replace(worst, amd=amd)]


def _rows(manifest: Manifest, stored: str, engine: str, device: str) -> list[Row]:
    kind = "gguf-*" if stored.startswith("gguf-") and stored not in FLOAT_GGUF else stored
    found = [
        row
        for row in ROWS
        if (row.engine, row.device, row.files) == (engine, device, manifest.format)
        and kind in row.stored
        and row.models.hold(manifest)
    ]
    return sorted(found, key=lambda row: bool(row.refused))


# Sources. "Measured": by this project, SmolLM2-135M on 2 cores of an AVX-512 processor; tokens a second at 1, 16 and
# 64 streams in one process, perplexity of a 327-token English text (float32: 21.0).
_HARDWARE = "vLLM's table of supported hardware"
_SOURCE = "vLLM 0.32, kernels/linear"
_CPU4 = "CPU WNA16 (4 bit, sizes in multiples of 32)"
_MARLIN = "Marlin; Machete on 9.0"
_BNB = ("bitsandbytes",)
_BNB_GUIDE = "bitsandbytes 0.50, installation guide"


def _openvino(files: Format, *stored: str, **facts: Any) -> Row:
    return _row("openvino", "cpu", files, stored, facts)


def _vllm(device: str, *stored: str, files: Format = "safetensors", **facts: Any) -> Row:
    return _row("vllm", device, files, stored, facts)


def _transformers(device: str, *stored: str, files: Format = "safetensors", **facts: Any) -> Row:
    return _row("transformers", device, files, stored, {"models": _CAUSAL, **facts})


def _row(engine: str, device: str, files: Format, stored: tuple[str, ...], facts: dict[str, Any]) -> Row:
    return Row(engine=engine, device=device, files=files, stored=stored, **{"runs": stored[0], **facts})


_REWRITTEN: dict[str, Any] = {"files": "gguf", "how": "rewritten once"}
_AT_START: dict[str, Any] = {"how": "at each start"}
_DECOMPRESSED = "weights decompressed in the product"
_TESTS = "tests of the engine"
_OPENVINO_ROWS = (
    _openvino("openvino", "none", kernels="oneDNN", basis="measured: 100/839/1400, perplexity 21.0"),
    _openvino("openvino", "int8", kernels=_DECOMPRESSED,
              basis="measured: 118/899/1408, perplexity 21.3"),
    _openvino("openvino", "int4", kernels=_DECOMPRESSED,
              basis="measured: 127/997/1499, perplexity 26.3"),
    _openvino("gguf", "gguf-*", runs="int8", how="rewritten once", models=_OPENVINO_GGUF, kernels=_DECOMPRESSED,
              basis="measured: perplexity 21.0 of a Q4_1 file (the engine's own reader: 28.3)"),
    _openvino("gguf", "gguf-*", runs="none", how="rewritten once", models=_OPENVINO_GGUF, kernels="oneDNN",
              basis="measured: perplexity 21.0 of a Q4_1 file"),
    _openvino("gguf", *FLOAT_GGUF, runs="none", how="rewritten once", models=_OPENVINO_GGUF, kernels="oneDNN",
              basis=_TESTS),
    _openvino("gguf", *FLOAT_GGUF, runs="int8", how="rewritten once", models=_OPENVINO_GGUF,
              kernels=_DECOMPRESSED, basis=_TESTS),
    _openvino("safetensors", "none", models=_ENCODERS, kernels="oneDNN", basis=_TESTS),
    _openvino("safetensors", "none", runs="int8", **_AT_START, models=_ENCODERS, kernels=_DECOMPRESSED, basis=_TESTS),
)  # fmt: skip
_VLLM_CPU_ROWS = (
    _vllm("cpu", "none", kernels="oneDNN", basis="measured: bfloat16 66/680/1150, float32 47/484"),
    _vllm("cpu", "w8a8", kernels="oneDNN int8", basis="measured: 70/717/1331, perplexity 22.3"),
    _vllm("cpu", "awq", kernels=_CPU4, basis="measured: 54/495/771, perplexity 31.3"),
    _vllm("cpu", "w4a16", kernels=_CPU4, basis="measured: 56/497/794, perplexity 31.6"),
    _vllm("cpu", "gptq", kernels=_CPU4, basis="measured: 54/502/339, perplexity 33.5"),
    _vllm("cpu", "gptq-int8", "int8", refused="the kernels for CPUs take 4 bit only", basis=_SOURCE),
    _vllm("cpu", "fp8", refused="2 to 3 tokens a second on a CPU", basis="measured"),
    _vllm("cpu", "mxfp4", "nvfp4", refused="it has no kernels for CPUs", basis=_SOURCE),
)  # fmt: skip
_VLLM_CUDA_ROWS = (
    _vllm("cuda", "none", capability=(7, 0), amd=True, kernels="cuBLAS, hipBLASLt", basis="vLLM, GPU installation"),
    _vllm("cuda", "fp8", capability=(7, 5), amd=True, basis=_HARDWARE,
          kernels="CUTLASS, DeepGEMM from 8.9 on; below, Marlin (weights only)"),
    _vllm("cuda", "w8a8", capability=(7, 5), kernels="CUTLASS", basis=_HARDWARE),
    _vllm("cuda", "int8", capability=(7, 5), kernels=_MARLIN, basis=_SOURCE),
    _vllm("cuda", "gptq-int8", capability=(7, 5), kernels=_MARLIN, basis=_SOURCE),
    _vllm("cuda", "mxfp4", capability=(8, 0), amd=True, kernels="Marlin; FlashInfer from 10.0 on", basis=_SOURCE),
    _vllm("cuda", "nvfp4", capability=(8, 0), kernels="Marlin (weights only); CUTLASS, FlashInfer from 10.0 on",
          basis=_SOURCE),
    _vllm("cuda", "awq", "w4a16", capability=(7, 5), kernels=_MARLIN, basis=_HARDWARE),
    _vllm("cuda", "gptq", capability=(7, 0), kernels=f"{_MARLIN}; ExLlama below 7.5", basis=_HARDWARE),
)  # fmt: skip
_GPU: dict[str, Any] = {"capability": (7, 0), "amd": True}
_TURING: dict[str, Any] = {"capability": (7, 5)}
_NOTHING: dict[str, Any] = {}
_VLLM_ROWS = tuple(
    row
    for device, needs in (("cpu", _NOTHING), ("cuda", _GPU))
    for row in (
        *(_VLLM_CPU_ROWS if device == "cpu" else _VLLM_CUDA_ROWS),
        _vllm(device, "gguf-*", *FLOAT_GGUF, **_REWRITTEN, runs="none", models=_TEXT, **needs, kernels="as none",
              basis="tests of the engine; its own plugin for GGUF has kernels for CUDA only"),
        _vllm(device, "none", runs="int8", **_AT_START, basis="seen in vLLM 0.32",
              refused="vLLM takes int8_per_channel_weight_only and leaves dense models as they are"),
        _vllm(device, "none", runs="int4", **_AT_START, refused="without a plugin vLLM rounds no floats to 4 bit"),
        _vllm(device, "none", runs="fp8", **_AT_START, refused="not built: use a checkpoint that holds fp8"),
        _vllm(device, "bnb-int8", "bnb-nf4", basis="with the plugin on a CPU: 27/351, perplexity 28.3",
              refused="vLLM moved it to a plugin in 0.28; the transformers engine runs it"),
    )
)  # fmt: skip
_TRANSFORMERS_ROWS = tuple(
    row
    for device, needs, int8, basis in (
        ("cpu", _NOTHING, _NOTHING, "measured: "),
        ("cuda", _GPU, _TURING, ""),
    )
    for row in (
        _transformers(device, "none", **needs, kernels="torch's",
                      basis=f"{basis}float32 22/197, perplexity 21.0" if basis else "as on a CPU"),
        _transformers(device, "none", runs="int8", **_AT_START, **int8, packages=_BNB, kernels="LLM.int8()",
                      basis=f"{basis}23/192, perplexity 21.7" if basis else _BNB_GUIDE),
        _transformers(device, "none", runs="int4", **_AT_START, **int8, packages=_BNB, kernels="bitsandbytes NF4",
                      basis=f"{basis}55/428, perplexity 28.2" if basis else _BNB_GUIDE),
        _transformers(device, "bnb-int8", **int8, packages=_BNB, kernels="LLM.int8()", basis=_BNB_GUIDE),
        _transformers(device, "bnb-nf4", **int8, packages=_BNB, kernels="bitsandbytes NF4", basis=_BNB_GUIDE),
        _transformers(device, "gguf-*", *FLOAT_GGUF, **_REWRITTEN, **needs, runs="none", kernels="torch's",
                      basis=_TESTS),
        _transformers(device, "gguf-*", *FLOAT_GGUF, **_REWRITTEN, **int8, runs="int8", packages=_BNB,
                      kernels="LLM.int8()", basis="as of floats"),
        _transformers(device, "gguf-*", *FLOAT_GGUF, **_REWRITTEN, **int8, runs="int4", packages=_BNB,
                      kernels="bitsandbytes NF4", basis="as of floats"),
        _transformers(device, "gptq", "gptq-int8", **needs, packages=("gptqmodel",), kernels="GPTQModel's",
                      basis=f"{basis}43/441, perplexity 33.8" if basis else "GPTQModel's documentation"),
        _transformers(device, "awq", "w4a16", "w8a8", "int8", "fp8", "mxfp4", "nvfp4",
                      refused="not built: vLLM runs it"),
    )
)  # fmt: skip
ROWS: tuple[Row, ...] = (*_OPENVINO_ROWS, *_VLLM_ROWS, *_TRANSFORMERS_ROWS)
