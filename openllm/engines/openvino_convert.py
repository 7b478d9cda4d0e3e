"""Rewrites a .gguf file once as an OpenVINO IR folder, in the cache; later starts open the folder."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from pathlib import Path

from openllm.engines.cached_folder import check_disk, folder_for, new_folder
from openllm.errors import UnsupportedOption
from openllm.formats.gguf_header import read_header

VERSION = 2  # of what is written: raise it and every cached form is made anew
_BYTES = {"float32": 4.0, "float16": 2.0, "int8": 1.02}  # of a weight, scales included


def form_of(quantization: str, dtype: str) -> str:
    """The stored form of the matrices: ``none`` keeps floats, exact ones for float32 arithmetic."""
    if quantization == "int8":
        return "int8"
    if quantization == "none":
        return "float32" if dtype == "float32" else "float16"
    raise UnsupportedOption(
        f"The openvino engine runs a GGUF file as int8 or unquantized, not as {quantization}.",
        hint="Use --quantize int8, or leave it out.",
        param="quantize",
    )


def converted(path: Path, cache: Path, form: str, report: Callable[[str], None]) -> Path:
    """The IR folder of ``path`` with its matrices in ``form``; made now if it is not in ``cache``.

    Blocks for seconds the first time. The folder appears whole or not at all. Raises ``UnsupportedOption`` for
    an architecture the engine does not know, ``CorruptFile``, ``DiskFull`` and ``WeightsError``.
    """
    target = folder_for(path, cache, "openvino", form, VERSION)
    if target.is_dir():
        return target
    weights = sum(prod(tensor.shape) for tensor in read_header(path, skip_arrays=True).tensors)
    check_disk(cache, int(weights * _BYTES[form]), path.name)
    report(f"converting {path.name} to OpenVINO {form}, once")
    with new_folder(target) as folder:
        _write(path, form, folder)
    return target


def _write(path: Path, form: str, folder: Path) -> None:
    import openvino as ov

    from openllm.engines.openvino_gguf import read_model
    from openllm.engines.openvino_weights import FORMS

    model = read_model(path, FORMS[form])
    ov.save_model(model, folder / "openvino_model.xml", compress_to_fp16=False)
