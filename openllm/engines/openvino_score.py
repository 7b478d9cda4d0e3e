"""Log probabilities of texts under an OpenVINO IR, for perplexity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov


def score(folder: Path, windows: list[list[int]], properties: dict[str, Any]) -> tuple[float, int]:
    """The sum of log probabilities of all tokens but each window's first, and their number; ``properties`` are the
    plugin's. Blocks."""
    compiled = ov.Core().compile_model(folder / "openvino_model.xml", "CPU", properties)
    request = compiled.create_infer_request()
    names = {name for port in compiled.inputs for name in port.get_names()}
    total, count = 0.0, 0
    for window in windows:
        request.reset_state()
        ids = np.array([window], np.int64)
        inputs = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "position_ids": np.arange(ids.shape[1], dtype=np.int64)[None],
            "beam_idx": np.zeros(1, np.int32),
        }
        request.infer({name: value for name, value in inputs.items() if name in names})
        logits = request.get_tensor("logits").data[0, :-1].astype(np.float64)
        logits -= logits.max(-1, keepdims=True)
        norms = np.log(np.exp(logits).sum(-1))
        total += float((logits[np.arange(len(window) - 1), window[1:]] - norms).sum())
        count += len(window) - 1
    return total, count
