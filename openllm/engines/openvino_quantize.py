"""Writes a model as an OpenVINO IR of few bits, in a process of its own: what it takes of memory goes with it.

``python -m openllm.engines.openvino_quantize SOURCE FOLDER MODE GROUP PARENT``. No calibration: weights are rounded,
each scale chosen for the least squared error.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from openllm.errors import OpenLLMError, UnsupportedOption, WeightsError
from openllm.parent import die_with_parent

_REFUSED = 2


def write_ir(source: Path, folder: Path, mode: str, group: int) -> None:
    """Write the IR of a .gguf file or a folder of safetensors into ``folder``; ``mode`` is int8, int4 or
    none (16 bit floats).

    Blocks for seconds to minutes. Raises ``UnsupportedOption`` for an architecture that is not known and
    ``WeightsError``.
    """
    command = [sys.executable, "-m", "openllm.engines.openvino_quantize", str(source), str(folder), mode]
    command += [str(group), str(os.getpid())]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
    if done.returncode == _REFUSED:
        raise UnsupportedOption(
            lines[-1], hint="Quantize it to gptq, awq, w8a8 or w4a16 for --backend vllm.", param="mode"
        )
    raise WeightsError(f"{source.name} could not be written as OpenVINO {mode}: {lines[-1][:300]}")


def _main(source: Path, folder: Path, mode: str, group: int, parent: int) -> int:
    die_with_parent(parent)
    import openvino as ov

    from openllm.engines.openvino_gguf import read_model
    from openllm.engines.openvino_safetensors import read_folder_model
    from openllm.engines.openvino_weights import float16, int4, int8

    weight = {"int8": int8, "none": float16}.get(mode) or int4(group)
    try:
        model = read_model(source, weight) if source.is_file() else read_folder_model(source, weight)
    except OpenLLMError as error:
        sys.stderr.write(f"{error.message}\n")
        return _REFUSED if isinstance(error, UnsupportedOption) else 1
    ov.save_model(model, folder / "openvino_model.xml", compress_to_fp16=False)
    return 0


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])))
