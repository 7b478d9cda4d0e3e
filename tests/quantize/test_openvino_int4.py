"""OpenVINO IRs of few bits: what is rounded, and how well."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import openvino as ov
import pytest

from openllm.engines.openvino_precision import precision
from openllm.engines.openvino_quantize import write_ir
from openllm.engines.openvino_safetensors import read_folder_model
from openllm.engines.openvino_score import score
from openllm.engines.openvino_weights import _fit_int4, float32
from openllm.errors import UnsupportedOption

IDS = [[*range(100, 160)], [*range(3000, 3040)]]


def torch_score(folder: Path, windows: list[list[int]]) -> float:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    total = 0.0
    with torch.no_grad():
        for window in windows:
            ids = torch.tensor([window])
            rows = torch.log_softmax(model(ids).logits[0, :-1].double(), -1)
            total += rows.gather(1, ids[0, 1:, None]).sum().item()
    return total


def test_a_folder_is_read_exactly(tiny: Path, tmp_path: Path) -> None:
    ov.save_model(read_folder_model(tiny, float32), tmp_path / "openvino_model.xml", compress_to_fp16=False)
    total, count = score(tmp_path, IDS, precision("float32", "none"))
    assert count == 98
    assert total == pytest.approx(torch_score(tiny, IDS), rel=1e-4)


@pytest.mark.parametrize(("mode", "types"), [("int4", {"u4", "u8"}), ("int8", {"u8"})])
def test_weights_are_stored_in_few_bits(mode: str, types: set[str], tiny: Path, tmp_path: Path) -> None:
    write_ir(tiny, tmp_path, mode, 32)
    model = ov.Core().read_model(tmp_path / "openvino_model.xml")
    sizes: dict[str, int] = {}
    for node in model.get_ops():
        if node.get_type_name() == "Constant":
            kind = node.get_element_type().get_type_name()
            sizes[kind] = sizes.get(kind, 0) + math.prod(node.get_output_shape(0))
    assert types <= sizes.keys()
    matrices = 2 * (128 * 256 + 128 * 128 + 3 * 128 * 256)  # of both layers: qkv, output, gate, up, down
    assert sizes["u4" if mode == "int4" else "u8"] >= matrices
    assert sizes.get("f32", 0) < 10_000
    total, _ = score(tmp_path, IDS, precision("auto", mode))
    assert total == pytest.approx(torch_score(tiny, IDS), rel=0.02)


def test_searched_scales_lose_less_than_the_widest() -> None:
    groups = np.random.default_rng(0).standard_t(4, (4000, 32)).astype(np.float32)
    levels, zeros, scales = _fit_int4(groups)
    assert levels.max() <= 15
    error = np.square((levels.astype(np.float32) - zeros) * scales - groups).mean()
    low, high = np.minimum(groups.min(1, keepdims=True), 0), np.maximum(groups.max(1, keepdims=True), 0)
    step = (high - low) / 15
    zero = np.rint(-low / step)
    plain = (np.clip(np.rint(groups / step + zero), 0, 15) - zero) * step
    assert error < 0.97 * np.square(plain - groups).mean()


def test_another_architecture(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to(tiny / "model.safetensors")
    config = (tiny / "config.json").read_text().replace('"model_type": "llama"', '"model_type": "mamba"')
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "out").mkdir()
    with pytest.raises(UnsupportedOption, match="mamba"):
        write_ir(tmp_path, tmp_path / "out", "int4", 32)
