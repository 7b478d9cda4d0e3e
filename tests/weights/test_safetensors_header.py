"""The safetensors header: agrees with the reference writer, and tells damage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from openllm.errors import CorruptFile, WeightsError
from openllm.formats.safetensors_header import read_header
from tests.weights.builders import safetensors


def test_reads_what_the_reference_writes(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    arrays: dict[str, np.ndarray] = {
        "a": np.zeros((3, 4), np.float32),
        "b": np.zeros(7, np.float16),
        "c": np.zeros((), np.int64),
    }
    save_file(arrays, path, {"format": "np"})
    header = read_header(path)
    assert {name: (tensor.shape, tensor.bytes) for name, tensor in header.tensors.items()} == {
        name: (array.shape, array.nbytes) for name, array in arrays.items()
    }
    assert header.metadata == {"format": "np"}
    assert header.header_bytes + header.data_bytes == path.stat().st_size


WHOLE = safetensors({"a": ("BF16", (10, 10), 200), "b": ("F32", (5,), 20)}, {"format": "pt"})


@given(length=st.integers(0, len(WHOLE) - 1))
def test_every_cut_is_told(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    path = tmp_path_factory.mktemp("cut") / "model.safetensors"
    path.write_bytes(WHOLE[:length])
    with pytest.raises(CorruptFile, match=r"model\.safetensors"):
        read_header(path)


@given(content=st.binary(max_size=300))
def test_bytes_that_are_no_model(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("noise") / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CorruptFile):
        read_header(path)


def _raw(header: object, data: int) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + b"\0" * data


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (WHOLE + b"\0", "longer"),
        (_raw({"a": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}, 12), "gap"),
        (_raw({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, 8), "shape does not fit"),
        (_raw({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}, 8), "shape does not fit"),
        (_raw({"a": {"dtype": "F32"}}, 0), "damaged"),
        (_raw([1], 0), "damaged"),
        (b"\xff" * 8 + WHOLE, "not a safetensors file"),
    ],
)
def test_damage(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CorruptFile, match=what):
        read_header(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be read"):
        read_header(tmp_path / "absent.safetensors")
