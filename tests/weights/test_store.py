"""The store: what counts as here and whole, and what happens between processes."""

from __future__ import annotations

import multiprocessing
from multiprocessing.synchronize import Event as ProcessEvent
from pathlib import Path

import msgspec
import pytest

from openllm.weights.manifest import HubFiles, Weights
from openllm.weights.store import Store, key, write_atomically
from tests.weights.builders import SMOLLM2, manifest

MODEL = manifest(SMOLLM2, "gguf")


@pytest.fixture
def stored(empty_store: Store) -> Weights:
    with empty_store.workspace(key(MODEL)) as workspace:
        made = workspace / "made"
        made.mkdir()
        (made / "model.gguf").write_bytes(b"weights")
        path = empty_store.publish(made, key(MODEL)) / "model.gguf"
    weights = Weights(path=str(path), format="gguf", tokenizer=str(path))
    return empty_store.mark(key(MODEL), weights, [path])


def test_marked_weights_are_ready(empty_store: Store, stored: Weights) -> None:
    assert empty_store.ready(MODEL) == stored


def test_nothing_is_ready_without_a_mark(empty_store: Store) -> None:
    folder = empty_store.folder(key(MODEL))
    folder.mkdir(parents=True)
    (folder / "model.gguf").write_bytes(b"weights")
    assert empty_store.ready(MODEL) is None


def test_a_file_of_another_size_is_not_ready(empty_store: Store, stored: Weights) -> None:
    Path(stored.path).write_bytes(b"weigh")
    assert empty_store.ready(MODEL) is None


def test_a_missing_file_is_not_ready(empty_store: Store, stored: Weights) -> None:
    Path(stored.path).unlink()
    assert empty_store.ready(MODEL) is None


@pytest.mark.usefixtures("stored")
def test_a_damaged_mark_is_not_ready(empty_store: Store) -> None:
    (mark,) = (empty_store.root / "ready").iterdir()
    mark.write_bytes(mark.read_bytes()[:-5])
    assert empty_store.ready(MODEL) is None


def test_a_store_may_be_moved(empty_store: Store, stored: Weights, tmp_path: Path) -> None:
    moved = Store(tmp_path / "elsewhere")
    empty_store.root.rename(moved.root)
    found = moved.ready(MODEL)
    assert found is not None
    assert found.path == stored.path.replace(str(empty_store.root), str(moved.root))


def test_removed_weights_are_gone(empty_store: Store, stored: Weights) -> None:
    assert empty_store.remove(MODEL) == len(b"weights")
    assert not Path(stored.path).exists()
    assert empty_store.ready(MODEL) is None
    assert empty_store.remove(MODEL) == 0


def test_keys_tell_sources_and_formats_apart() -> None:
    sources = (
        HubFiles(repo="a/b"),
        HubFiles(repo="a/b", revision="v1"),
        HubFiles(repo="a/b", patterns=("*",)),
        SMOLLM2,
    )
    manifests = [manifest(source, form) for source in sources for form in ("safetensors", "gguf")]
    assert len({key(each) for each in manifests}) == len(manifests)
    assert all("/" not in key(each) for each in manifests)


def test_a_key_does_not_depend_on_what_the_recipe_says_besides() -> None:
    assert key(MODEL) == key(msgspec.structs.replace(MODEL, name="other", context=1))


def _hold(root: Path, held: ProcessEvent, release: ProcessEvent) -> None:
    with Store(root).lock("a", lambda: None):
        held.set()
        release.wait(20)


def test_a_lock_is_held_by_one_process(empty_store: Store) -> None:
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(empty_store.root, held, release))
    other.start()
    assert held.wait(20)
    waited: list[bool] = []

    def waiting() -> None:
        waited.append(other.is_alive())
        release.set()

    with empty_store.lock("a", waiting):
        other.join(20)
        assert other.exitcode == 0
    assert waited == [True]


def test_a_lock_ends_with_its_process(empty_store: Store) -> None:
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(empty_store.root, held, release))
    other.start()
    assert held.wait(20)
    with empty_store.lock("a", other.kill):
        other.join(20)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_atomically(target, b"old")
    with pytest.raises(TypeError):
        write_atomically(target, "no bytes")  # type: ignore[arg-type]
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]
