"""Rewrites a .gguf file once as an OpenVINO IR folder, in the cache; later starts open the folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from openllm.errors import DiskFull, UnsupportedOption, WeightsError
from openllm.formats.gguf_header import read_header

VERSION = 1  # of what is written: raise it and every cached form is made anew
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
    target = cache / _name(path, form)
    if target.is_dir():
        return target
    _check_disk(path, cache, form)
    report(f"converting {path.name} to OpenVINO {form}, once")
    with _folder(cache, target) as folder:
        _write(path, form, folder)
    return target


def _name(path: Path, form: str) -> str:
    try:
        state = path.stat()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}.", hint="Check the path.") from error
    key = f"{path.resolve()}\0{state.st_size}\0{state.st_mtime_ns}\0{form}\0{VERSION}"
    return f"openvino-{path.stem[:60]}-{form}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _check_disk(path: Path, cache: Path, form: str) -> None:
    weights = 0
    for tensor in read_header(path, skip_arrays=True).tensors:
        count = 1
        for extent in tensor.shape:
            count *= extent
        weights += count
    need = int(weights * _BYTES[form]) + (64 << 20)
    cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache).free
    if need > free:
        raise DiskFull(
            f"Converting {path.name} needs {need >> 20} MiB in {cache}; {free >> 20} MiB are free.",
            hint="Free some space, or choose another cache folder with --cache.",
        )


@contextlib.contextmanager
def _folder(cache: Path, target: Path) -> Iterator[Path]:
    """A new folder that becomes ``target`` if the body succeeds and vanishes if it does not."""
    for left in cache.glob(f"{target.name}.part-*"):
        if not _alive(int(left.suffix.rpartition("-")[2])):
            shutil.rmtree(left, ignore_errors=True)
    part = cache / f"{target.name}.part-{os.getpid()}"
    part.mkdir()
    try:
        yield part
        with contextlib.suppress(OSError):  # another process was faster: its folder is as good
            part.rename(target)
    except OSError as error:
        raise WeightsError(
            f"The converted model could not be written to {cache}: {error.strerror or error}.",
            hint="Check the free space and the permissions of the cache folder.",
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    if not target.is_dir():
        raise WeightsError(f"{target} could not be made.", hint="Check the permissions of the cache folder.")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _write(path: Path, form: str, folder: Path) -> None:
    import openvino as ov

    from openllm.engines.openvino_gguf import read_model
    from openllm.engines.openvino_weights import FORMS

    model = read_model(path, FORMS[form])
    ov.save_model(model, folder / "openvino_model.xml", compress_to_fp16=False)
