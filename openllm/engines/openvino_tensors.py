"""Reads tensors out of a folder's safetensors files, as float32 arrays, with numpy alone."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np

from openllm.engines.openvino_graph import Floats
from openllm.errors import CorruptFile, WeightsError
from openllm.formats.safetensors_header import TensorInfo, read_header

_BFLOAT16 = "BF16"
_DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16}


class FolderTensors:
    """The tensors of all ``*.safetensors`` files directly in ``folder``, by name; ``prefix`` is cut off names.

    Raises ``CorruptFile`` for damaged files and ``WeightsError`` where there are none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.used: set[str] = set()
        self._places: dict[str, tuple[Path, int, TensorInfo]] = {}
        self._maps: dict[Path, mmap.mmap] = {}
        for path in sorted(folder.glob("*.safetensors")):
            header = read_header(path)
            for name, info in header.tensors.items():
                self._places[name] = (path, header.header_bytes, info)
        if not self._places:
            raise WeightsError(
                f"{folder} has no .safetensors file.",
                hint="Only safetensors weights can be read; convert the model's .bin files.",
            )

    @property
    def names(self) -> list[str]:
        return list(self._places)

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def read(self, name: str) -> Floats:
        """One tensor. Its bytes stay in the file's mapping where they are float32 already.

        Raises ``CorruptFile`` if there is no such tensor, or one whose numbers are not floats.
        """
        if name not in self._places:
            raise CorruptFile(f"{self.folder} lacks the tensor {name}.", hint="Fetch the model again.")
        self.used.add(name)
        path, start, info = self._places[name]
        if path not in self._maps:
            with path.open("rb") as file:
                self._maps[path] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        data = self._maps[path]
        offset = start + info.data_offsets[0]
        if info.dtype == _BFLOAT16:
            halves = np.frombuffer(data, np.uint16, info.numbers, offset)
            floats = (halves.astype(np.uint32) << 16).view(np.float32)
        elif info.dtype in _DTYPES:
            floats = np.frombuffer(data, _DTYPES[info.dtype], info.numbers, offset).astype(
                np.float32, copy=False
            )
        else:
            raise CorruptFile(
                f"The tensor {name} of {self.folder} is {info.dtype}.", hint="Use float weights."
            )
        return floats.reshape(info.shape)
