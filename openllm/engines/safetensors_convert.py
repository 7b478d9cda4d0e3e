"""Rewrites a .gguf file once as safetensors, dequantized: vLLM's reader of GGUF needs CUDA, and transformers' own
takes as long at every start.

transformers does the reading, in a process of its own: what it takes of memory goes with it. Run as
``python -m openllm.engines.safetensors_convert SOURCE FOLDER PARENT``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from math import prod
from pathlib import Path

from openllm.engines.cached_folder import check_disk, folder_for, new_folder
from openllm.errors import EngineMissing, WeightsError
from openllm.formats.gguf_header import read_header
from openllm.parent import die_with_parent

VERSION = 1  # of what is written: raise it and every cached form is made anew
_NO_PACKAGE = 3


def converted(
    path: Path, cache: Path, report: Callable[[str], None], write: Callable[[Path, Path], None] | None = None
) -> Path:
    """The safetensors folder of ``path``, float32, exact; made now if it is not in ``cache``.

    ``write`` (file, folder) makes it where transformers is not to be had here.

    Blocks for seconds to minutes the first time. The folder appears whole or not at all. Raises
    ``CorruptFile``, ``DiskFull``, ``EngineMissing`` and ``WeightsError``.
    """
    target = folder_for(path, cache, "safetensors", "float32", VERSION)
    if target.is_dir():
        return target
    weights = sum(prod(tensor.shape) for tensor in read_header(path, skip_arrays=True).tensors)
    check_disk(cache, 4 * weights, path.name)
    report(f"converting {path.name} to safetensors, once")
    with new_folder(target) as folder:
        (write or _run)(path, folder)
    return target


def _run(path: Path, folder: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "openllm.engines.safetensors_convert",
        str(path),
        str(folder),
        str(os.getpid()),
    ]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
    if done.returncode == _NO_PACKAGE:
        raise EngineMissing(lines[-1], hint="Run: pip install 'openllm[transformers]'", param="backend")
    raise WeightsError(
        f"{path.name} could not be converted to safetensors: {lines[-1][:300]}",
        hint="Use --backend openvino, or the model's safetensors.",
    )


def _main(source: Path, folder: Path, parent: int) -> int:
    die_with_parent(parent)
    try:
        import accelerate  # noqa: F401 - transformers needs it for this
        from transformers import AutoModelForCausalLM, GgufConfig
    except ImportError as error:
        sys.stderr.write(f"Reading GGUF files needs transformers and accelerate: {error}\n")
        return _NO_PACKAGE
    model = AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, quantization_config=GgufConfig(dequantize=True)
    )
    model.save_pretrained(folder)
    return 0


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
