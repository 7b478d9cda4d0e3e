"""OpenVINO's packages without its model converter, 0.2 s of a start, which they import if it can be imported."""

# ruff: noqa: E402
import sys

sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]

import openvino as ov
import openvino_genai as genai

__all__ = ["genai", "ov"]
