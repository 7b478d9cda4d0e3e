"""Weights of this machine, used in place: which files they are, and whether they are whole."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from openllm.errors import CorruptFile, WeightsError
from openllm.weights.hub_cache import files_under
from openllm.weights.hub_files import (
    ADAPTER_FILES,
    RepoFile,
    gguf_weights,
    needed_files,
    safetensors_weights,
)
from openllm.weights.manifest import Format, LocalPath, Weights

if TYPE_CHECKING:
    from openllm.weights.gguf_facts import GgufFacts

IR_MODEL = "openvino_model.xml"
INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.(?:gguf|safetensors)$")


class _Index(msgspec.Struct, frozen=True):
    """A sharded model's list of tensors: tensor name -> file."""

    weight_map: dict[str, str]


def open_local(source: LocalPath, format: Format) -> Weights:
    """The weights at a local path, after a check of their headers; reads no tensor.

    Raises ``CorruptFile`` if a file is damaged or missing, ``WeightsError`` if it cannot be read.
    """
    path = Path(source.path)
    if not path.exists():
        raise CorruptFile(f"{path} is no longer there.", hint="Check the path, or that its disk is mounted.")
    if path.is_dir():
        check_folder(path, format)
    else:
        check_gguf(path)
    return Weights(path=str(path), format=format, tokenizer=str(path))


def main_path(folder: Path, format: Format, files: Sequence[RepoFile]) -> Path:
    """What an engine opens: the folder, or the (first) .gguf file of ``files`` in it."""
    return folder / min(file.path for file in gguf_weights(files)) if format == "gguf" else folder


def check_folder(folder: Path, format: Format, patterns: Sequence[str] = ()) -> None:
    """Check that every file that ``format`` needs is in ``folder``, as long as its header says.

    Raises ``CorruptFile`` or ``WeightsError``.
    """
    files = needed_files(files_under(folder), format, patterns)
    match format:
        case "safetensors":
            _check_safetensors(folder, files)
        case "gguf":
            found = gguf_weights(files)
            if not found:
                raise CorruptFile(f"{folder} has no .gguf file.", hint="Fetch the model again.")
            for file in found:
                check_gguf(folder / file.path)
        case "openvino":
            _require(folder, (IR_MODEL, IR_MODEL.replace(".xml", ".bin")))
        case "lora":
            _require(folder, ADAPTER_FILES)


def gguf_facts(path: Path) -> tuple[GgufFacts, int]:
    """What the header of a .gguf file says, and the numbers in all files of its model.

    Raises ``CorruptFile`` or ``WeightsError``.
    """
    from openllm.formats.gguf_header import read_header
    from openllm.weights.gguf_facts import GgufFacts

    names = shards(path.name)
    _require(path.parent, names)
    headers = [read_header(path.parent / name, skip_arrays=True) for name in names]
    numbers = sum(math.prod(tensor.shape) for header in headers for tensor in header.tensors)
    return GgufFacts(headers[0], str(path)), numbers


def check_gguf(path: Path) -> None:
    """Check one file's header, and that its other shards are beside it.

    Raises ``CorruptFile`` or ``WeightsError``.
    """
    from openllm.formats.gguf_header import read_header

    _require(path.parent, shards(path.name))
    read_header(path, skip_arrays=True)


def shards(name: str) -> tuple[str, ...]:
    """Names of all files of a model whose one file is ``name``: itself, unless it is one of several."""
    found = _SHARD.search(name)
    if not found:
        return (name,)
    count = int(found[2])
    return tuple(
        f"{name[: found.start(1)]}{number:05d}{name[found.end(1) :]}" for number in range(1, count + 1)
    )


def _check_safetensors(folder: Path, files: Sequence[RepoFile]) -> None:
    from openllm.formats.safetensors_header import read_header

    _require(folder, ("config.json",))
    weights = safetensors_weights(files)
    if not weights:
        raise CorruptFile(f"{folder} has no weights in it.", hint="Fetch the model again.")
    index = folder / INDEX
    if index.is_file():
        try:
            listed = msgspec.json.decode(index.read_bytes(), type=_Index).weight_map
        except msgspec.DecodeError:
            raise CorruptFile(f"{index} is damaged.", hint="Fetch the file again.") from None
        _require(folder, sorted(set(listed.values())))
    for file in weights:
        if file.path.endswith(".safetensors"):
            read_header(folder / file.path)


def _require(folder: Path, names: Sequence[str]) -> None:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise CorruptFile(f"{folder} lacks {missing[0]}{more}.", hint="Fetch the model again.")


def is_whole(folder: Path, format: Format, patterns: Sequence[str]) -> bool:
    """As ``check_folder``, as an answer."""
    try:
        check_folder(folder, format, patterns)
    except WeightsError:
        return False
    return True
