"""Write small GGUF files for tests, following the specification by hand so that the reader is not its own judge."""

from __future__ import annotations

import struct

# Metadata type ids: bool 7, string 8, array 9, u32 4, i32 5, f32 6, u64 10.


def text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def value(content: object) -> bytes:
    if isinstance(content, bool):
        return struct.pack("<IB", 7, content)
    if isinstance(content, int):
        return struct.pack("<II", 4, content)
    if isinstance(content, float):
        return struct.pack("<If", 6, content)
    if isinstance(content, str):
        return struct.pack("<I", 8) + text(content)
    assert isinstance(content, list)
    return struct.pack("<I", 9) + elements(content)


def elements(content: list[object]) -> bytes:
    count = len(content)
    if content and isinstance(content[0], str):
        return struct.pack("<IQ", 8, count) + b"".join(text(str(item)) for item in content)
    if content and isinstance(content[0], float):
        return struct.pack(f"<IQ{count}f", 6, count, *content)
    return struct.pack(f"<IQ{count}i", 5, count, *content)


def tensor(name: str, shape: tuple[int, ...], type_id: int, offset: int) -> bytes:
    head = text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return head + struct.pack("<IQ", type_id, offset)


def gguf(
    metadata: dict[str, object], tensors: list[bytes] | None = None, data: bytes = b"", version: int = 3
) -> bytes:
    tensors = tensors or []
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    head += b"".join(text(key) + value(content) for key, content in metadata.items())
    head += b"".join(tensors)
    alignment = metadata.get("general.alignment", 32)
    assert isinstance(alignment, int)
    return head + b"\0" * (-len(head) % alignment) + data
