"""What OpenVINO imports and maps when it loads a model, whichever model it is."""

from __future__ import annotations

import importlib

import openvino as ov

_KEPT: list[ov.Core] = []  # a library is unmapped with the last one that uses it


def preload() -> None:
    """Import and map it now. No thread begins; blocks for a tenth of a second."""
    importlib.import_module("openvino_tokenizers")  # GenAI's tokenizer does so
    core = ov.Core()
    core.get_property("CPU", "FULL_DEVICE_NAME")
    _KEPT.append(core)
