"""How a model's weights are quantized, from the files beside them: the name that recipes and plans use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

SETTINGS_FILES = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")
"""Where older AutoGPTQ, older AWQ and modelopt say it, if config.json does not."""

_SAME = {
    "fp8": "fp8",
    "fbgemm_fp8": "fp8",
    "mxfp4": "mxfp4",
    "gpt_oss_mxfp4": "mxfp4",
    "deepseek_v4_fp8": "fp8",
}
_GPTQ = ("gptq", "gptqmodel", "auto_gptq", "gptq_marlin")
_AWQ = ("awq", "auto_awq", "awq_marlin")
# Types of numbers in safetensors that no unquantized language model has.
_FLOAT8 = ("F8_E4M3", "F8_E5M2")
_PACKED = ("I8", "U8", "I32", "U32")


def quantization_from_config(raw: Mapping[str, Any], settings: Mapping[str, Any] | None = None) -> str:
    """The mode as ``plan.support`` names it, "none" if there is none, or the method's own name for one that is not
    known there; several, joined by "+", where layers differ ("fp8+nvfp4").

    ``raw`` is config.json, ``settings`` the content of one of ``SETTINGS_FILES``.
    """
    inner = raw.get("text_config")
    quantized = raw.get("quantization_config") or raw.get("compression_config")
    if not quantized and isinstance(inner, dict):
        quantized = inner.get("quantization_config")
    if not isinstance(quantized, dict) or not quantized:
        quantized = dict(settings or {})
    if not quantized:
        return "none"
    return _kind(quantized)


def quantization_from_types(counts: Mapping[str, int]) -> str:
    """As ``quantization_from_config``, from the numbers of each type in the files, for weights whose settings say
    nothing: "none", "fp8", or "unknown" for packed integers."""
    half = sum(counts.values()) / 2
    if sum(counts.get(kind, 0) for kind in _FLOAT8) > half:
        return "fp8"
    return "unknown" if sum(counts.get(kind, 0) for kind in _PACKED) > half else "none"


def _kind(quantized: Mapping[str, Any]) -> str:
    method = str(quantized.get("quant_method") or "").lower().replace("-", "_")
    if method == "compressed_tensors":
        return _compressed_tensors(quantized)
    if method.startswith("modelopt") or "quantization" in quantized:
        return _modelopt(quantized, method)
    if method == "auto_round":
        packing = str(quantized.get("packing_format") or "")
        return _awq(quantized) if "awq" in packing else _gptq(quantized)
    if method == "bitsandbytes":
        eight = quantized.get("load_in_8bit") or quantized.get("_load_in_8bit")
        return "bnb-int8" if eight else "bnb-nf4"
    if method in _AWQ or (not method and ("w_bit" in quantized or "q_group_size" in quantized)):
        return _awq(quantized)
    if method in _GPTQ or (not method and "bits" in quantized):  # older AutoGPTQ does not name itself
        return _gptq(quantized)
    return _SAME.get(method, method.replace("_", "-") or "unknown")


def _gptq(quantized: Mapping[str, Any]) -> str:
    bits = quantized.get("bits", 4)
    return {4: "gptq", 8: "gptq-int8"}.get(bits, f"gptq-int{bits}")


def _awq(quantized: Mapping[str, Any]) -> str:
    bits = quantized.get("bits", quantized.get("w_bit", 4))
    return "awq" if bits == 4 else f"awq-int{bits}"


def _modelopt(quantized: Mapping[str, Any], method: str) -> str:
    inner = quantized.get("quantization")
    facts: Mapping[str, Any] = inner if isinstance(inner, dict) else quantized
    layers = facts.get("quantized_layers")
    if isinstance(layers, dict) and layers:
        kinds = (each.get("quant_algo") for each in layers.values() if isinstance(each, dict))
        return _joined(_modelopt_name(str(kind)) for kind in kinds)
    return _modelopt_name(str(facts.get("quant_algo") or method))


def _modelopt_name(algorithm: str) -> str:
    algorithm = algorithm.upper()
    if "FP4" in algorithm:
        return "mxfp4" if "MXFP4" in algorithm else "nvfp4"
    return "awq" if "W4A16_AWQ" in algorithm else "fp8"


def _compressed_tensors(quantized: Mapping[str, Any]) -> str:
    groups = quantized.get("config_groups")
    form = str(quantized.get("format") or "")
    found = groups.values() if isinstance(groups, dict) else ()
    return _joined(_scheme(group, form) for group in found if isinstance(group, dict)) or "unknown"


def _scheme(group: Mapping[str, Any], outer: str) -> str:
    """One group of layers; its own format wins over that of all."""
    form = str(group.get("format") or outer)
    for name in ("nvfp4", "mxfp4"):
        if form.startswith(name):
            return name
    weights = group.get("weights") or {}
    activations = group.get("input_activations")
    bits, kind = weights.get("num_bits"), weights.get("type")
    if kind == "float":
        return "fp8" if bits == 8 else "nvfp4"
    if bits == 4:
        return "w4a8" if activations else "w4a16"
    if bits == 8:
        return "w8a8" if activations else "int8"
    return f"w{bits}a{(activations or {}).get('num_bits', 16)}"


def _joined(kinds: Iterable[str]) -> str:
    return "+".join(sorted(set(kinds)))
