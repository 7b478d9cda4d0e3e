"""Rows and contents: each owner sees their own, a full disk leaves no half file, old files go."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from openllm.api.upload import Upload
from openllm.batches import storage as module
from openllm.batches.records import BatchRecord, FileRecord, now
from openllm.batches.storage import Storage, lock_folder
from openllm.errors import Conflict, DiskFull, MachineError, ObjectNotFound

Call = Callable[[Storage], object]


def file(name: str, owner: str = "ann", *, expires_at: int | None = None) -> FileRecord:
    return FileRecord(
        id=name, owner=owner, bytes=1, created_at=now(), filename="f", purpose="batch", expires_at=expires_at
    )


def batch(name: str, owner: str = "ann", file: str = "file-a") -> BatchRecord:
    return BatchRecord(
        id=name, owner=owner, endpoint="/v1/completions", input_file_id=file, completion_window="24h",
        created_at=now(), expires_at=now() + 60,
    )  # fmt: skip


def add(storage: Storage, record: FileRecord) -> None:
    storage.part(record.id).write_bytes(b"x")
    storage.add_file(record)


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    made = Storage(lock_folder(tmp_path / "data"), 1000)
    yield made
    made.close()


@pytest.mark.parametrize(
    "call",
    [
        lambda storage: storage.file("file-a", "bob"),
        lambda storage: storage.delete_file("file-a", "bob"),
        lambda storage: storage.batch("batch_a", "bob"),
        lambda storage: storage.batches("bob", after="batch_a", limit=9),
        lambda storage: storage.files("bob", purpose=None, after="file-a", limit=9, newest_first=True),
    ],
)
def test_another_owner_finds_nothing(storage: Storage, call: Call) -> None:
    add(storage, file("file-a"))
    storage.add_batch(batch("batch_a"), 9)
    with pytest.raises(ObjectNotFound):
        call(storage)
    assert storage.files("bob", purpose=None, after=None, limit=9, newest_first=True) == ([], False)
    assert storage.batches("bob", after=None, limit=9) == ([], False)
    assert storage.file("file-a", "ann").id == "file-a"
    assert storage.batch("batch_a", "ann").id == "batch_a"


def test_an_expired_file_is_gone_unless_a_batch_reads_it(storage: Storage) -> None:
    for name in ("file-a", "file-b"):
        add(storage, file(name, expires_at=now() - 1))
    storage.add_batch(batch("batch_a"), 9)
    with pytest.raises(ObjectNotFound):
        storage.file("file-a", "ann")
    storage.sweep()
    assert storage.content("file-a").exists()
    assert not storage.content("file-b").exists()


def test_each_owner_may_have_so_many_batches(storage: Storage) -> None:
    first = batch("batch_a")
    storage.add_batch(first, 2)
    storage.add_batch(batch("batch_b"), 2)
    with pytest.raises(Conflict):
        storage.add_batch(batch("batch_c"), 2)
    storage.add_batch(batch("batch_d", "bob"), 2)
    first.become("completed")
    storage.save_batch(first)
    storage.add_batch(batch("batch_c"), 2)


def test_what_has_ended_stays_as_it_is(storage: Storage) -> None:
    record = batch("batch_a")
    storage.add_batch(record, 9)
    record.become("completed")
    storage.save_batch(record)
    record.become("cancelling")
    storage.save_batch(record)
    assert storage.batch("batch_a", "ann").status == "completed"


def test_a_folder_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    Storage(lock_folder(tmp_path), 1000).close()
    with sqlite3.connect(tmp_path / "openllm.db") as db:
        db.execute("pragma user_version = 99")
    db.close()
    with pytest.raises(MachineError, match="newer version"):
        Storage(lock_folder(tmp_path), 1000)


def test_a_folder_is_for_one_at_a_time(tmp_path: Path) -> None:
    held = lock_folder(tmp_path)
    with pytest.raises(MachineError, match="another server"):
        lock_folder(tmp_path)
    held.lock.close()
    lock_folder(tmp_path).lock.close()


def test_a_disk_that_runs_full_in_the_middle_of_an_upload(small_disk: Path) -> None:
    storage = Storage(lock_folder(small_disk), 10**9)
    storage.require_space(1000)

    async def chunks() -> AsyncIterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        for _ in range(200):
            yield b"x" * 2**20

    upload = Upload("multipart/form-data; boundary=x", storage.part("file-a"), 10**9)
    with pytest.raises(DiskFull, match="is full"):
        asyncio.run(upload.read(chunks()))
    assert not list((small_disk / "parts").iterdir())
    with pytest.raises(DiskFull):
        storage.require_space(small_disk.stat().st_size + 80 * 2**20 - module.MARGIN_BYTES)
    storage.close()
