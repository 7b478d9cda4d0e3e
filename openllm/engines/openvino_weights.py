"""The forms in which a matrix is stored in an OpenVINO graph."""

from __future__ import annotations

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as op

from openllm.engines.openvino_graph import Floats, MakeWeight, Node

_LEAST_SCALE = np.float32(2.0**-24)  # the smallest f16


def float16(matrix: Floats, name: str) -> Node:
    """As f16: exact for what was quantized to few bits with f16 scales, up to rounding of the products."""
    return op.convert(_constant(matrix.astype(np.float16), name), "f32")


def float32(matrix: Floats, name: str) -> Node:
    """As f32, exact."""
    return _constant(matrix, name)


def int8(matrix: Floats, name: str) -> Node:
    """As u8 with a scale and a zero point per row.

    Measured on SmolLM2-135M against symmetric i8 and against groups of 64 and 32: the lowest perplexity of all
    (0.2 % below float32's, the others 0.6 to 1.1 % above it) and the fastest with the plugin's kernels.
    """
    low = np.minimum(matrix.min(1, keepdims=True), 0)
    high = np.maximum(matrix.max(1, keepdims=True), 0)
    scale = np.maximum(((high - low) / 255).astype(np.float16).astype(np.float32), _LEAST_SCALE)
    zero = np.clip(np.rint(-low / scale), 0, 255)
    levels = np.clip(np.rint(matrix / scale + zero), 0, 255).astype(np.uint8)
    centred = op.subtract(
        op.convert(_constant(levels, name), "f16"), op.convert(op.constant(zero.astype(np.uint8)), "f16")
    )
    return op.convert(op.multiply(centred, op.constant(scale.astype(np.float16))), "f32")


def int4(group: int) -> MakeWeight:
    """As u4 with a scale and a zero point per ``group`` inputs of a row; tables of the vocabulary, and rows that groups
    do not divide, as ``int8``. A scale is the one of a dozen that leaves the least squared error."""

    def make(matrix: Floats, name: str) -> Node:
        if name in ("embeddings", "head") or matrix.shape[1] % group:
            return int8(matrix, name)
        rows, width = matrix.shape
        levels, zero, scale = _fit_int4(matrix.reshape(-1, group))
        shape = [rows, width // group, group]
        few = [rows, width // group, 1]
        centred = op.subtract(
            op.convert(_constant(_packed(levels, shape), name), "f16"),
            op.convert(op.constant(_packed(zero, few)), "f16"),
        )
        scaled = op.multiply(centred, op.constant(scale.astype(np.float16).reshape(few)))
        whole = op.reshape(scaled, op.constant(np.array([rows, width], np.int64)), False)
        return op.convert(whole, "f32")

    return make


_SHRINKS = np.linspace(1.0, 0.7, 13, dtype=np.float32)


def _fit_int4(groups: Floats) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Floats]:
    """Levels [n, g] and zeros [n, 1] from 0 to 15, and scales [n, 1], of groups [n, g]."""
    low = np.minimum(groups.min(1, keepdims=True), 0)
    high = np.maximum(groups.max(1, keepdims=True), 0)
    best = np.full((len(groups), 1), np.inf, np.float32)
    scales, zeros = np.ones_like(best), np.zeros_like(best)
    for shrink in _SHRINKS:
        scale = ((high - low) * (shrink / 15)).astype(np.float16).astype(np.float32)
        scale = np.maximum(scale, _LEAST_SCALE)
        zero = np.clip(np.rint(-low * shrink / scale), 0, 15)
        error = (_levels(groups, scale, zero) - zero) * scale - groups
        squares = np.einsum("ij,ij->i", error, error)[:, None]
        better = squares < best
        best = np.where(better, squares, best)
        scales, zeros = np.where(better, scale, scales), np.where(better, zero, zeros)
    return _levels(groups, scales, zeros).astype(np.uint8), zeros.astype(np.uint8), scales


def _levels(groups: Floats, scale: Floats, zero: Floats) -> Floats:
    levels: Floats = np.clip(np.rint(groups / scale + zero), 0, 15)
    return levels


def _packed(values: NDArray[np.uint8], shape: list[int]) -> ov.Tensor:
    """Two values a byte, the first in the low half."""
    flat = values.reshape(-1)
    flat = np.concatenate([flat, np.zeros(len(flat) % 2, np.uint8)])
    return ov.Tensor(flat[::2] | flat[1::2] << 4, ov.Shape(shape), ov.Type.u4)


FORMS: dict[str, MakeWeight] = {"float32": float32, "float16": float16, "int8": int8}


def _constant(values: object, name: str) -> Node:
    node = op.constant(values)
    node.set_friendly_name(name)
    return node
