"""Kind and size of images, as their encoder wrote them, and of what is none."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from openllm.chat.image_header import ImageHeader, read_image_header

SIZES = [(1, 1), (17, 300), (640, 3), (1023, 1025)]
FORMS: list[tuple[str, str, dict[str, Any]]] = [
    ("png", "RGBA", {}),
    ("png", "P", {}),
    ("jpeg", "RGB", {}),
    ("jpeg", "RGB", {"progressive": True, "comment": b"\xff\xc0" * 40}),
    ("jpeg", "L", {"exif": b"Exif\0\0" + bytes(5000)}),
    ("gif", "P", {}),
    ("webp", "RGB", {"lossless": False}),
    ("webp", "RGB", {"lossless": True}),
    ("webp", "RGBA", {"exif": b"Exif\0\0" + bytes(100)}),
]


def encoded(form: str, mode: str, size: tuple[int, int], **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("form", "mode", "options"), FORMS)
def test_what_an_encoder_wrote(form: str, mode: str, options: dict[str, Any], size: tuple[int, int]) -> None:
    found = read_image_header(encoded(form, mode, size, **options))
    assert found == ImageHeader(form, *size)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a\0\0\0\0",
        b"\xff\xd8\xff",
        b"RIFF\0\0\0\0WEBPVP8 ",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"BM" + bytes(60),
        b"%PDF-1.7",
    ],
)
def test_what_is_none(data: bytes) -> None:
    assert read_image_header(data) is None


@given(st.sampled_from(FORMS), st.integers(0, 400), st.binary(max_size=40))
def test_cut_and_changed_files_are_read_or_refused(
    form: tuple[str, str, dict[str, Any]], at: int, patch: bytes
) -> None:
    data = encoded(form[0], form[1], (40, 30), **form[2])
    read_image_header(data[:at])
    read_image_header(data[:at] + patch + data[at + len(patch) :])
