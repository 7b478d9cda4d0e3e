"""Weights of a model of torch, counted by how they are stored."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch

from openllm.engines.weight_forms import UNKNOWN

_NAMES = {
    torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16", torch.int8: "int8",
    torch.float8_e4m3fn: "fp8", torch.float8_e5m2: "fp8", torch.float8_e4m3fnuz: "fp8",
}  # fmt: skip
_PACKED = {torch.int32: 32, torch.int64: 64, torch.uint8: 8}  # bits of what several weights lie in


def torch_forms(model: Any) -> dict[str, int]:
    """Numbers in the matrices of ``model``, but for its embeddings and the layer before its logits, which
    quantization leaves alone. Empty for vLLM's quantized experts: their kernels lay them out as they please. Quick.
    """
    forms: Counter[str] = Counter()
    for name, module in model.named_modules():
        kind = type(module).__name__
        if "Embedding" in kind or "LMHead" in kind or name.endswith(("lm_head", "embed_out")):
            continue
        if "MoE" in kind and _quantizes(module):
            return {}
        for label, weights in module.named_parameters(recurse=False):
            form, count = _form(module, label, weights)
            forms[form] += count
    return {form: count for form, count in forms.items() if count}


def _form(module: Any, label: str, weights: Any) -> tuple[str, int]:
    state = getattr(weights, "quant_state", None)
    if state is not None:  # bitsandbytes: two weights in a byte
        return "int4", int(state.shape.numel())
    if weights.dtype in _PACKED:
        return _packed(module, label, weights)
    if weights.dim() < 2 and label == "weight" and not weights.numel():
        return _packed_away(module, weights)
    if weights.dim() < 2 or any(part in label for part in ("scale", "zero", "azp")):
        return UNKNOWN, 0
    return _NAMES.get(weights.dtype, UNKNOWN), int(weights.numel())


def _packed(module: Any, label: str, weights: Any) -> tuple[str, int]:
    """Weights of GPTQ, AWQ and compressed-tensors; their zero points lie beside them."""
    if "zero" in label or "g_idx" in label or "shape" in label:
        return UNKNOWN, 0
    held = weights.numel() * _PACKED[weights.dtype]
    count = _matrix(module)
    if not count:
        return UNKNOWN, held // 4
    return {4: "int4", 8: "int8"}.get(round(held / count), UNKNOWN), count


def _packed_away(module: Any, weights: Any) -> tuple[str, int]:
    """A matrix of vLLM that is in a kernel's own memory; what it left says of which type it was."""
    return (UNKNOWN if _quantizes(module) else _NAMES.get(weights.dtype, UNKNOWN)), _matrix(module)


def _quantizes(module: Any) -> bool:
    """Has vLLM given this layer a way to compute with quantized weights?"""
    method = getattr(module, "quant_method", None)
    return method is not None and not type(method).__name__.startswith("Unquantized")


def _matrix(module: Any) -> int:
    """Numbers in the matrix of a linear layer: of vLLM, or of others that say its sides."""
    for rows, columns in (
        ("output_size_per_partition", "input_size_per_partition"),
        ("out_features", "in_features"),
    ):
        if hasattr(module, rows) and hasattr(module, columns):
            return int(getattr(module, rows)) * int(getattr(module, columns))
    return 0
