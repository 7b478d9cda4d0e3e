"""Read a safetensors file's header: which tensors it holds and where, and whether the file is whole.

The layout is that of the safetensors format description: eight bytes with the header's length
(little-endian), the header as JSON, then the tensors' bytes without gaps.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NoReturn

import msgspec

from openllm.errors import CorruptFile, WeightsError

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 100_000_000
"""The limit of the reference implementation; a longer one is damage."""

# Bits of one number. The sub-byte types came with the MX formats.
DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64,
    "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


class TensorInfo(msgspec.Struct, frozen=True):
    """One tensor: ``data_offsets`` are its first byte and the one after its last, after the header."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]

    @property
    def numbers(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.data_offsets[1] - self.data_offsets[0]


class SafetensorsHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What a safetensors file says before its data. ``header_bytes`` counts the eight of the length too."""

    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]
    header_bytes: int
    data_bytes: int


def read_header(path: Path) -> SafetensorsHeader:
    """Read the header of a file and check that the file is as long as it says. Reads no tensor's data.

    Raises ``CorruptFile`` for anything malformed, cut short or too long, and ``WeightsError`` if the file
    cannot be opened.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            header_bytes = header_length(file.read(LENGTH_BYTES), str(path))
            header = parse_header(file.read(header_bytes - LENGTH_BYTES), str(path))
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be read: {error.strerror or error}.", hint="Check the path and its permissions."
        ) from error
    check_size(header, size, str(path))
    return header


def header_length(start: bytes, name: str) -> int:
    """Bytes of the header, from the file's first eight. Raises ``CorruptFile``, with ``name`` in it."""
    if len(start) < LENGTH_BYTES:
        _fail(name, "is shorter than any safetensors file")
    length = int.from_bytes(start[:LENGTH_BYTES], "little")
    if not 2 <= length <= MAX_HEADER_BYTES:
        _fail(name, "is not a safetensors file")
    return LENGTH_BYTES + length


def parse_header(text: bytes, name: str) -> SafetensorsHeader:
    """The header from its JSON, after the eight bytes. Raises ``CorruptFile``, with ``name`` in it."""
    try:
        entries = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        metadata = msgspec.json.decode(entries.pop("__metadata__", msgspec.Raw(b"{}")), type=dict[str, str])
        tensors = {key: msgspec.json.decode(raw, type=TensorInfo) for key, raw in entries.items()}
    except (msgspec.DecodeError, UnicodeDecodeError):
        _fail(name, "has a header that is damaged or cut short")
    _check_tensors(tensors, name)
    return SafetensorsHeader(
        tensors=tensors,
        metadata=metadata,
        header_bytes=LENGTH_BYTES + len(text),
        data_bytes=max((tensor.data_offsets[1] for tensor in tensors.values()), default=0),
    )


def check_size(header: SafetensorsHeader, size: int, name: str) -> None:
    """Raise ``CorruptFile`` unless a file of ``size`` bytes holds exactly what ``header`` lists."""
    wanted = header.header_bytes + header.data_bytes
    if size < wanted:
        _fail(name, f"is cut short: {size} of {wanted} bytes")
    if size > wanted:
        _fail(name, f"is {size - wanted} bytes longer than its header says")


def _check_tensors(tensors: dict[str, TensorInfo], name: str) -> None:
    position = 0
    for key, tensor in sorted(tensors.items(), key=lambda item: item[1].data_offsets):
        begin, end = tensor.data_offsets
        if begin != position or end < begin:
            _fail(name, f"has a gap or an overlap at tensor {key[:80]!r}")
        bits = DTYPE_BITS.get(tensor.dtype)
        if min(tensor.shape, default=0) < 0 or (bits and -(-tensor.numbers * bits // 8) != tensor.bytes):
            _fail(name, f"has a tensor {key[:80]!r} whose shape does not fit its bytes")
        position = end


def _fail(name: str, what: str) -> NoReturn:
    raise CorruptFile(f"{name} {what}.", hint="Fetch the file again.") from None
