"""How weights are quantized, from the ``quantization_config`` of a config.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SAME = {
    "gptq": "gptq",
    "gptqmodel": "gptq",
    "awq": "awq",
    "bitsandbytes": "bitsandbytes",
    "fp8": "fp8",
    "fbgemm_fp8": "fp8",
    "mxfp4": "mxfp4",
}


def quantization_from_config(raw: Mapping[str, Any]) -> str:
    """The name as recipes have it ("none" if there is none), or the method's own for one that we do not know."""
    inner = raw.get("text_config")
    quantized = raw.get("quantization_config") or raw.get("compression_config")
    if not quantized and isinstance(inner, dict):
        quantized = inner.get("quantization_config")
    if not isinstance(quantized, dict):
        return "none"
    method = str(quantized.get("quant_method") or "").lower().replace("_", "-")
    if method == "compressed-tensors":
        return _compressed_tensors(quantized)
    if method in ("modelopt", "modelopt-fp4"):
        return "nvfp4" if "FP4" in str(quantized.get("quant_algo") or method).upper() else "fp8"
    if method == "auto-round":
        packing = str(quantized.get("packing_format") or "")
        return "awq" if "awq" in packing else "gptq"
    return _SAME.get(method.replace("-", "_"), method or "unknown")


def _compressed_tensors(quantized: Mapping[str, Any]) -> str:
    """From the first group: every published scheme quantizes all linear layers alike."""
    groups = quantized.get("config_groups") or {}
    first: dict[str, Any] = next(iter(groups.values()), {}) if isinstance(groups, dict) else {}
    form = str(quantized.get("format") or first.get("format") or "")
    for name in ("nvfp4", "mxfp4"):
        if form.startswith(name):
            return name
    weights = first.get("weights") or {}
    bits, kind = weights.get("num_bits"), weights.get("type")
    if kind == "float":
        return "fp8" if bits == 8 else "nvfp4"
    if bits == 4:
        return "w4a16"
    return "w8a8" if first.get("input_activations") else "int8"
