"""The matrix of engines and modes: what was measured and what was refused, each where it belongs."""

from __future__ import annotations

from benchmarks.matrix import MODES, Mode, table
from benchmarks.matrix_row import Figures

GOOD = Figures(
    answer="The capital of France is Paris.", seconds=2.5, rate={"1": 20.4, "16": 190.0, "64": 300.6},
    memory=900 << 20, perplexity=21.04, weights={"int8": 75, "float32": 25},
)  # fmt: skip


def test_rows() -> None:
    wrong = Figures(**{name: getattr(GOOD, name) for name in GOOD.__struct_fields__} | {"answer": "Lyon"})
    found = {
        "transformers:int8": GOOD,
        "vllm:float32": wrong,
        "openvino:gptq": Figures(refusal="OpenVINO has no gptq. Use --backend vllm."),
    }
    lines = table(found, "here").splitlines()
    row = "| transformers | int8 | right | 20 / 190 / 301 | 21.04 | 900 | 2.5 | 25 % float32, 75 % int8 |"
    assert row in lines
    assert any("| vllm | float32 | **wrong**: 'Lyon' |" in line for line in lines)
    assert "| openvino | gptq | OpenVINO has no gptq. Use --backend vllm. |" in lines
    assert len([line for line in lines if line.startswith(("| transformers", "| vllm", "| openvino"))]) == 3


def test_modes_ask_for_what_they_are() -> None:
    floats = Mode("vllm", "bfloat16").overrides()
    assert (floats.backend, floats.quantize, floats.dtype) == ("vllm", "none", "bfloat16")
    eight = Mode("transformers", "int8").overrides()
    assert (eight.quantize, eight.dtype) == ("int8", None)
    assert len({mode.name for mode in MODES}) == len(MODES) == 36
