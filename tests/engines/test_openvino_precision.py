"""What the CPU plugin makes of the properties that stand for a dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

from openllm.engines.openvino_graph import MakeWeight
from openllm.engines.openvino_precision import precision
from openllm.engines.openvino_weights import float32, int8


def compiled(weight: MakeWeight, properties: dict[str, Any]) -> Any:
    """A product with a random matrix of 32 rows and 256 columns."""
    matrix = np.random.default_rng(0).standard_normal((32, 256), np.float32)
    inputs = op.parameter(ov.PartialShape([-1, 256]), ov.Type.f32)
    model = ov.Model([op.matmul(inputs, weight(matrix, "matrix"), False, True)], [inputs], "product")
    return ov.Core().compile_model(model, "CPU", properties)


@pytest.mark.parametrize(("dtype", "group"), [("auto", 32), ("float32", 0)])
def test_int8_weights_are_not_turned_into_bfloat16(dtype: str, group: int) -> None:
    product = compiled(int8, precision(dtype, "int8"))
    assert product.get_property("INFERENCE_PRECISION_HINT") == ov.Type.f32
    assert product.get_property("DYNAMIC_QUANTIZATION_GROUP_SIZE") == group


def test_float32_is_float32() -> None:
    """On a CPU with AMX too, where the plugin would choose bfloat16."""
    rows = np.random.default_rng(1).standard_normal((4, 256), np.float32)
    found = compiled(float32, precision("float32", "none"))(rows)[0]
    matrix = np.random.default_rng(0).standard_normal((32, 256), np.float32)
    np.testing.assert_allclose(found, rows @ matrix.T, atol=1e-4)
