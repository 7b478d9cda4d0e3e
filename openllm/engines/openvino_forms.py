"""Weights of an IR, counted by how they are stored."""

from __future__ import annotations

import re
from collections import Counter
from math import prod
from pathlib import Path

from openllm.engines.weight_forms import UNKNOWN

_CONSTANT = re.compile(rb'type="Const"[^>]*>\s*<data element_type="(\w+)" shape="([\d,\s]*)"')
_NAMES = {
    "f32": "float32", "f16": "float16", "bf16": "bfloat16", "i8": "int8", "u8": "int8",
    "i4": "int4", "u4": "int4", "nf4": "int4", "f8e4m3": "fp8", "f8e5m2": "fp8", "f4e2m1": "fp4",
}  # fmt: skip
_INDICES = frozenset({"i32", "i64", "boolean", "u32", "u64", "string"})
_LEAST = 1024  # numbers of a matrix; what is smaller belongs to the graph


def openvino_forms(folder: Path, vocabulary: int) -> dict[str, int]:
    """Numbers in the matrices of ``openvino_model.xml``, but for those with a row a token. Reads the graph that was
    loaded."""
    forms: Counter[str] = Counter()
    for kind, shape in _CONSTANT.findall((folder / "openvino_model.xml").read_bytes()):
        sides = [int(side) for side in shape.split(b",") if side.strip()]
        name = kind.decode()
        if (
            name in _INDICES
            or sides[:1] == [vocabulary]
            or sum(side > 1 for side in sides) < 2
            or prod(sides) < _LEAST
        ):
            continue
        forms[_NAMES.get(name, UNKNOWN)] += prod(sides)
    return dict(forms)
