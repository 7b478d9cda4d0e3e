"""Read a GGUF file's header: its metadata and where each tensor lies.

An own small reader, because the ``gguf`` package costs over a second to import and makes numpy arrays of
every token of the vocabulary. The layout is that of the GGUF specification (ggml, docs/gguf.md), versions 2
and 3.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from openllm.errors import CorruptFile, WeightsError

MAGIC = b"GGUF"
DEFAULT_ALIGNMENT = 32
MAX_DIMENSIONS = 4
MAX_HEADER_BYTES = 512 << 20
"""A header longer than this is taken for damage: the largest known (vocabularies of 260,000) have 20 MB."""
MAX_ARRAY_ELEMENTS = 1 << 23
"""Elements of all arrays together; keeps a damaged count from filling the memory."""
SHORT_ARRAY = 1024
"""``skip_arrays`` still reads arrays up to this length (a number per layer, languages, tags)."""

# ggml's tensor types: id -> (name, elements in a block, bytes of a block).
TENSOR_TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40), 10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18),
}  # fmt: skip

# Metadata value types: id -> struct letter. 8 is a string, 9 an array.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_U32 = struct.Struct("<I").unpack_from
_U64 = struct.Struct("<Q").unpack_from


class SkippedArray(msgspec.Struct, frozen=True):
    """Stands for a long array that ``skip_arrays`` left unread."""

    length: int


class TensorInfo(msgspec.Struct, frozen=True):
    """One tensor.

    ``shape`` is in the file's order (fastest dimension first, so reversed against PyTorch); ``type`` is
    ggml's name; ``offset`` counts bytes from ``GgufHeader.data_offset``; ``bytes`` is its size.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    bytes: int


class GgufHeader(msgspec.Struct, frozen=True):
    """What a GGUF file says before its data; metadata values are bool, int, float, str or a list of these."""

    version: int
    metadata: dict[str, object]
    tensors: tuple[TensorInfo, ...]
    data_offset: int
    alignment: int


def read_header(path: Path, *, skip_arrays: bool = False) -> GgufHeader:
    """Read the header of a .gguf file and check that its tensors lie within the file.

    With ``skip_arrays`` arrays of more than ``SHORT_ARRAY`` elements (vocabulary, scores, merges) are stepped
    over and stand as ``SkippedArray`` in the metadata. Blocks on the disk; reads no tensor's data.
    Raises ``CorruptFile`` for anything malformed, cut short, big endian or of another version, and
    ``WeightsError`` if the file cannot be opened.
    """
    try:
        with path.open("rb") as file:
            if file.seek(0, 2) == 0:
                raise CorruptFile(f"{path} is empty.", hint="Fetch the file again.")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Reader(path, data, skip_arrays).header()
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be read: {error.strerror or error}.", hint="Check the path and its permissions."
        ) from error


class _Reader:
    """A cursor over the mapped file; a read out of range is a ``struct.error``, then a ``CorruptFile``."""

    def __init__(self, path: Path, data: mmap.mmap, skip_arrays: bool) -> None:
        self.path = path
        self.data = data
        self.size = len(data)
        self.skip_arrays = skip_arrays
        self.position = 0
        self.elements_left = MAX_ARRAY_ELEMENTS

    def header(self) -> GgufHeader:
        try:
            return self._header()
        except struct.error:
            self.fail("ends in the middle of its header")
        except UnicodeDecodeError:
            self.fail("has a text in its header that is not UTF-8")

    def _header(self) -> GgufHeader:
        version = self._version()
        tensor_count = self.number(_U64, 8)
        key_count = self.number(_U64, 8)
        metadata: dict[str, object] = {}
        for _ in range(key_count):
            key = self.text()
            if key in metadata:
                self.fail(f"has the metadata key {key[:80]!r} twice")
            metadata[key] = self.value(self.number(_U32, 4))
        alignment = self._alignment(metadata)
        tensors = self._tensors(tensor_count, alignment)
        data_offset = -(-self.position // alignment) * alignment
        for tensor in tensors:
            if data_offset + tensor.offset + tensor.bytes > self.size:
                self.fail(f"is cut short: tensor {tensor.name[:80]!r} lies beyond its end")
        return GgufHeader(version, metadata, tensors, data_offset, alignment)

    def _version(self) -> int:
        if self.data[:4] != MAGIC:
            self.fail("is not a GGUF file")
        self.position = 4
        version = self.number(_U32, 4)
        if version and not version & 0xFFFF:
            self.fail("is big endian, which is not supported", hint="Use the model's little-endian file.")
        if version not in (2, 3):
            self.fail(f"is GGUF version {version}; 2 and 3 are supported", hint="Convert the model again.")
        return version

    def _alignment(self, metadata: dict[str, object]) -> int:
        alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if type(alignment) is not int or alignment <= 0 or alignment & (alignment - 1):
            self.fail("has an alignment that is not a power of two")
        return alignment

    def _tensors(self, count: int, alignment: int) -> tuple[TensorInfo, ...]:
        tensors: dict[str, TensorInfo] = {}
        for _ in range(count):
            tensor = self._tensor(alignment)
            if tensor.name in tensors:
                self.fail(f"has the tensor {tensor.name[:80]!r} twice")
            tensors[tensor.name] = tensor
        return tuple(tensors.values())

    def _tensor(self, alignment: int) -> TensorInfo:
        name = self.text()
        dimensions = self.number(_U32, 4)
        if dimensions > MAX_DIMENSIONS:
            self.fail(f"has a tensor {name[:80]!r} of {dimensions} dimensions")
        shape = tuple(self.number(_U64, 8) for _ in range(dimensions))
        type_id = self.number(_U32, 4)
        offset = self.number(_U64, 8)
        if type_id not in TENSOR_TYPES:
            self.fail(
                f"has a tensor {name[:80]!r} of the unknown type {type_id}",
                hint="Use another quantization of the model, or a newer OpenLLM.",
            )
        type_name, block, block_bytes = TENSOR_TYPES[type_id]
        elements = 1
        for extent in shape:
            elements *= extent
        if (shape[0] if shape else 1) % block:
            self.fail(f"has a tensor {name[:80]!r} whose rows are no whole number of {type_name} blocks")
        if offset % alignment:
            self.fail(f"has a tensor {name[:80]!r} that is not aligned")
        return TensorInfo(name, shape, type_name, offset, elements // block * block_bytes)

    def fail(self, what: str, hint: str = "Fetch the file again.") -> NoReturn:
        raise CorruptFile(f"{self.path} {what}.", hint=hint) from None

    def number(self, unpack: Callable[..., tuple[Any, ...]], size: int) -> int:
        result: int = unpack(self.data, self.position)[0]
        self.position += size
        return result

    def advance(self, size: int) -> int:
        """Step over ``size`` bytes and return where they began."""
        start = self.position
        end = start + size
        if end > self.size:
            self.fail("ends in the middle of its header")
        if end > MAX_HEADER_BYTES:
            self.fail("claims a header of over 512 MiB")
        self.position = end
        return start

    def text(self) -> str:
        size = self.number(_U64, 8)
        start = self.advance(size)
        return self.data[start : start + size].decode()

    def value(self, type_id: int) -> object:
        if type_id == _STRING:
            return self.text()
        if type_id == _ARRAY:
            return self.array()
        return self.scalars(type_id, 1)[0]

    def scalars(self, type_id: int, count: int) -> tuple[Any, ...]:
        layout = f"<{count}{self._letter(type_id)}"
        return struct.unpack_from(layout, self.data, self.advance(struct.calcsize(layout)))

    def _letter(self, type_id: int) -> str:
        letter = _SCALARS.get(type_id)
        if letter is None:
            self.fail(f"has a metadata value of the unknown type {type_id}")
        return letter

    def array(self) -> object:
        type_id = self.number(_U32, 4)
        count = self.number(_U64, 8)
        self.elements_left -= count
        if self.elements_left < 0:
            self.fail(f"claims an array of {count} elements")
        if type_id == _ARRAY:
            self.fail("has an array of arrays")
        if self.skip_arrays and count > SHORT_ARRAY:
            self._skip(type_id, count)
            return SkippedArray(count)
        return self._texts(count) if type_id == _STRING else list(self.scalars(type_id, count))

    def _skip(self, type_id: int, count: int) -> None:
        if type_id != _STRING:
            self.advance(count * struct.calcsize(f"<{self._letter(type_id)}"))
            return
        data, unpack, position, size = self.data, _U64, self.position, self.size
        for _ in range(count):
            position += 8 + unpack(data, position)[0]
            if position > size:
                break  # _jump reports it
        self._jump(position)

    def _texts(self, count: int) -> list[str]:
        data, unpack, position, size = self.data, _U64, self.position, self.size
        texts = []
        for _ in range(count):
            start = position + 8
            position = start + unpack(data, position)[0]
            if position > size:
                break  # _jump reports it
            texts.append(data[start:position].decode())
        self._jump(position)
        return texts

    def _jump(self, position: int) -> None:
        self.advance(position - self.position)
