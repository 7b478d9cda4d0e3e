"""What kind of image some bytes are and how large it would be decoded, from its first bytes. Pure, and without a
decoder: the front only looks, so that what could burst or trick a decoder never reaches one.

Sources: the PNG specification (IHDR), JFIF/ITU T.81 (frame headers), GIF89a (logical screen), and the WebP container
and bitstream descriptions (VP8, VP8L, VP8X).
"""

from __future__ import annotations

import struct
from typing import Literal

import msgspec

ImageKind = Literal["png", "jpeg", "webp", "gif"]

_PNG = b"\x89PNG\r\n\x1a\n"
# Frame headers of JPEG: all of C0 to CF but for tables (C4), reserved (C8) and arithmetic conditioning (CC).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a length


class ImageHeader(msgspec.Struct, frozen=True):
    """``width`` and ``height`` in pixels; of an animation those of the whole canvas."""

    kind: ImageKind
    width: int
    height: int

    @property
    def pixels(self) -> int:
        return self.width * self.height


def read_image_header(data: bytes) -> ImageHeader | None:
    """The header of a PNG, JPEG, WebP or GIF; None if it is none of these, or damaged."""
    try:
        found = _read(data)
    except (struct.error, IndexError):
        return None
    return found if found is not None and found.width > 0 and found.height > 0 else None


def _read(data: bytes) -> ImageHeader | None:
    if data.startswith(_PNG):
        if data[12:16] != b"IHDR":
            return None
        return ImageHeader("png", *struct.unpack_from(">II", data, 16))
    if data.startswith((b"GIF87a", b"GIF89a")):
        return ImageHeader("gif", *struct.unpack_from("<HH", data, 6))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp(data)
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data)
    return None


def _webp(data: bytes) -> ImageHeader | None:
    match data[12:16]:
        case b"VP8X":
            width = int.from_bytes(data[24:27], "little") + 1
            height = int.from_bytes(data[27:30], "little") + 1
            return ImageHeader("webp", width, height) if len(data) >= 30 else None
        case b"VP8L":
            if data[20] != 0x2F:
                return None
            (bits,) = struct.unpack_from("<I", data, 21)
            return ImageHeader("webp", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
        case b"VP8 ":
            if data[23:26] != b"\x9d\x01\x2a":
                return None
            width, height = struct.unpack_from("<HH", data, 26)
            return ImageHeader("webp", width & 0x3FFF, height & 0x3FFF)
    return None


def _jpeg(data: bytes) -> ImageHeader | None:
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
        elif marker in _BARE:
            at += 2
        elif marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return ImageHeader("jpeg", width, height)
        else:
            (length,) = struct.unpack_from(">H", data, at + 2)
            if length < 2:
                return None
            at += 2 + length
    return None
