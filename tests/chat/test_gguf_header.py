from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openllm.errors import CorruptFile, WeightsError
from openllm.formats.gguf_header import SHORT_ARRAY, SkippedArray, TensorInfo, read_header
from tests.chat.gguf_bytes import gguf, tensor, text

METADATA: dict[str, object] = {
    "general.architecture": "llama",
    "general.name": "Ünïcode",
    "llama.context_length": 2048,
    "llama.rope.freq_base": 10000.0,
    "tokenizer.ggml.add_bos_token": True,
    "llama.feed_forward_length": [1, 2, 3],
    "tokenizer.ggml.tokens": [f"t{index}" for index in range(SHORT_ARRAY + 1)],
    "tokenizer.ggml.scores": [float(-index) for index in range(SHORT_ARRAY + 1)],
    "general.alignment": 64,
}
TENSORS = [tensor("a.weight", (32, 2), 2, 0), tensor("b.bias", (3,), 0, 64)]
FILE = gguf(METADATA, TENSORS, b"\1" * 76)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gguf") / "model.gguf"


def test_reads_metadata_and_tensors(path: Path) -> None:
    path.write_bytes(FILE)
    header = read_header(path)
    assert header.version == 3
    assert header.metadata == METADATA
    assert header.alignment == 64
    assert header.data_offset == len(FILE) - 76
    assert header.tensors == (
        TensorInfo("a.weight", (32, 2), "Q4_0", 0, 36),
        TensorInfo("b.bias", (3,), "F32", 64, 12),
    )


def test_skips_long_arrays_only(path: Path) -> None:
    path.write_bytes(FILE)
    full, short = read_header(path), read_header(path, skip_arrays=True)
    assert short.metadata["llama.feed_forward_length"] == [1, 2, 3]
    assert short.metadata["tokenizer.ggml.tokens"] == SkippedArray(SHORT_ARRAY + 1)
    assert short.metadata["tokenizer.ggml.scores"] == SkippedArray(SHORT_ARRAY + 1)
    assert (short.tensors, short.data_offset) == (full.tensors, full.data_offset)


def test_reads_version_2(path: Path) -> None:
    path.write_bytes(gguf({"a": 1}, version=2))
    assert read_header(path).version == 2


def test_agrees_with_the_gguf_package(smollm2_gguf: Path) -> None:
    gguf_package = pytest.importorskip("gguf")
    reference = gguf_package.GGUFReader(smollm2_gguf)
    header = read_header(smollm2_gguf)
    assert header.data_offset == reference.data_offset
    assert [(t.name, t.shape, t.type, t.bytes) for t in header.tensors] == [
        (t.name, tuple(t.shape.tolist()), t.tensor_type.name, t.n_bytes) for t in reference.tensors
    ]
    keys = [key for key in reference.fields if not key.startswith("GGUF.")]
    assert list(header.metadata) == keys
    for key in keys:
        assert header.metadata[key] == reference.fields[key].contents()


def broken(**changes: object) -> dict[str, object]:
    return METADATA | changes


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b"PK\3\4" + FILE[4:], "is not a GGUF file", id="magic"),
        pytest.param(b"GGUF" + struct.pack(">I", 3) + FILE[8:], "big endian", id="big endian"),
        pytest.param(gguf({}, version=1), "version 1", id="version 1"),
        pytest.param(gguf({}, version=4), "version 4", id="version 4"),
        pytest.param(FILE[:40], "in the middle of its header", id="cut in the header"),
        pytest.param(FILE[:-1], "beyond its end", id="cut in the data"),
        pytest.param(gguf(broken(**{"general.alignment": 48}), data=b""), "alignment", id="alignment"),
        pytest.param(gguf({}, [TENSORS[0], TENSORS[0]], b"\0" * 99), "twice", id="tensor twice"),
        pytest.param(gguf({}, [tensor("a", (2,), 99, 0)]), "unknown type 99", id="tensor type"),
        pytest.param(gguf({}, [tensor("a", (31,), 2, 0)]), "no whole number", id="broken block"),
        pytest.param(gguf({}, [tensor("a", (1,), 0, 7)]), "not aligned", id="offset"),
        pytest.param(gguf({}, [tensor("a", (1,) * 5, 0, 0)]), "5 dimensions", id="dimensions"),
        pytest.param(gguf({}, [tensor("a", (2**63, 2**63), 0, 0)]), "beyond its end", id="huge tensor"),
    ],
)
def test_damage_is_named(path: Path, content: bytes, says: str) -> None:
    path.write_bytes(content)
    with pytest.raises(CorruptFile, match=says) as caught:
        read_header(path)
    assert caught.value.hint


def with_value(type_id: int, content: bytes) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("key") + struct.pack("<I", type_id) + content


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(with_value(8, struct.pack("<Q", 2**63)), id="text"),
        pytest.param(with_value(9, struct.pack("<IQ", 8, 2**40)), id="array of texts"),
        pytest.param(with_value(9, struct.pack("<IQ", 0, 2**63)), id="array of numbers"),
        pytest.param(with_value(9, struct.pack("<IQ", 9, 1) * 64), id="arrays in arrays"),
        pytest.param(with_value(77, b""), id="type"),
        pytest.param(with_value(8, struct.pack("<Q", 2) + b"\xff\xff"), id="not UTF-8"),
        pytest.param(with_value(9, struct.pack("<IQQ", 8, 2, 2**64 - 1)), id="wrapping length"),
        pytest.param(b"GGUF" + struct.pack("<IQQ", 3, 2**63, 2**63), id="counts"),
    ],
)
@pytest.mark.parametrize("skip_arrays", [True, False])
def test_false_sizes_take_no_memory(path: Path, content: bytes, skip_arrays: bool) -> None:
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(CorruptFile):
            read_header(path, skip_arrays=skip_arrays)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_missing_file_is_no_corrupt_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="No such file") as caught:
        read_header(tmp_path / "none.gguf")
    assert not isinstance(caught.value, CorruptFile)


@given(data=st.data(), skip_arrays=st.booleans())
def test_any_damage_is_a_corrupt_file(path: Path, data: st.DataObject, skip_arrays: bool) -> None:
    content = bytearray(FILE[: data.draw(st.integers(0, len(FILE)) | st.just(len(FILE)))])
    for _ in range(data.draw(st.integers(0, 4))):
        if content:
            # The strings in the middle are dull: prefer the first and last bytes.
            near = st.integers(0, min(300, len(content) - 1))
            place = data.draw(near | near.map(lambda distance: len(content) - 1 - distance))
            content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        header = read_header(path, skip_arrays=skip_arrays)
    except CorruptFile:
        return
    for found in header.tensors:
        assert header.data_offset + found.offset + found.bytes <= len(content)
