"""Where files and batches are kept: rows in SQLite, contents in plain files.

    openllm.lock     held by the one server that uses the folder
    openllm.db       rows of files and batches (SQLite, write-ahead log)
    files/<file id>  contents; those without a row belong to a batch that goes on, or are left over
    parts/           uploads under way

SQLite because a page of a listing, a quota and "these two files and this status, or nothing" are one statement
each; plain files for contents because they are large, are appended to, and are sent from the disk. Contents are on
disk before their row is: a row without its contents cannot be.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

import msgspec

from openllm.batches.records import BatchRecord, FileRecord, now
from openllm.errors import Conflict, DiskFull, MachineError, ObjectNotFound

_VERSION = 1
_SCHEMA = """
create table files (
    place integer primary key autoincrement, id text unique not null, owner text not null, purpose text not null,
    bytes integer not null, expires_at integer, record blob not null
);
create index files_by_owner on files (owner, place);
create table batches (
    place integer primary key autoincrement, id text unique not null, owner text not null,
    input_file_id text not null, ended integer not null, record blob not null
);
create index batches_by_owner on batches (owner, place);
create index batches_open on batches (ended, place);
"""
# Left free for everything else that runs here.
MARGIN_BYTES = 64 * 1024 * 1024
_HINT = "Free some space, delete files, or choose another --data-dir."
Row = TypeVar("Row", FileRecord, BatchRecord)


def default_root() -> Path:
    """The user's data folder for openllm."""
    import platformdirs

    return Path(platformdirs.user_data_path("openllm", appauthor=False))


class DataFolder(NamedTuple):
    """A folder that is this process's own, until ``lock`` is closed or the process ends."""

    path: Path
    lock: IO[bytes]


def lock_folder(path: Path) -> DataFolder:
    """Make a folder this process's own. Raises ``MachineError`` if another server has it or it cannot be written."""
    hint = "Choose another folder with --data-dir."
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (path / "openllm.lock").open("wb")
    except OSError as error:
        raise MachineError(
            f"The data folder {path} cannot be written: {error.strerror}.", hint=hint
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise MachineError(f"The data folder {path} is used by another server.", hint=hint) from error
    return DataFolder(path, lock)


class Storage:
    """All files and batches. Every method may block on the disk; all may be called from any thread.

    ``limit`` bounds the bytes of all files together. A method that writes raises ``DiskFull`` when the disk is.
    Raises ``MachineError`` for a folder of a newer version.
    """

    def __init__(self, folder: DataFolder, limit: int) -> None:
        self._limit = limit
        self._folder = folder
        root = self._root = folder.path
        self._lock = threading.Lock()
        with disk_errors(root):
            for name in ("files", "parts"):
                (root / name).mkdir(exist_ok=True, mode=0o700)
            self._db = sqlite3.connect(root / "openllm.db", check_same_thread=False)
            try:
                self._prepare()
                self._clean()
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Close the database and give the folder back; nothing may be called after it."""
        with self._lock:
            self._db.close()
            self._folder.lock.close()

    def content(self, name: str) -> Path:
        """Where the contents of a file id are."""
        return self._root / "files" / name

    def part(self, name: str) -> Path:
        """Where the contents of a file id are while they arrive."""
        return self._root / "parts" / name

    def require_space(self, count: int) -> None:
        """Raise ``DiskFull`` unless ``count`` more bytes fit the disk, with a margin, and the limit."""
        if shutil.disk_usage(self._root).free < count + MARGIN_BYTES:
            raise _full(self._root)
        with self._lock:
            self._require_limit(count)

    def add_file(self, record: FileRecord) -> None:
        """Publish a part that is complete and on disk. Raises ``DiskFull`` beyond the limit."""
        with self._transaction():
            self._require_limit(record.bytes)
            self.part(record.id).rename(self.content(record.id))
            _sync(self._root / "files")
            self._insert_file(record)

    def file(self, name: str, owner: str) -> FileRecord:
        """Raises ``ObjectNotFound``, also for a file of another owner and one that has expired."""
        with self._lock:
            row = self._db.execute(
                "select record from files where id = ? and owner = ? and (expires_at is null or expires_at > ?)",
                (name, owner, now()),
            ).fetchone()
        if row is None:
            raise ObjectNotFound(f"There is no file {name!r}.", hint="See GET /v1/files.", param="id")
        return msgspec.json.decode(row[0], type=FileRecord)

    def files(
        self, owner: str, *, purpose: str | None, after: str | None, limit: int, newest_first: bool
    ) -> tuple[list[FileRecord], bool]:
        """A page of an owner's files behind ``after``, and whether more follow. Raises ``ObjectNotFound``."""
        where = "(expires_at is null or expires_at > ?)"
        values: list[object] = [now()]
        if purpose is not None:
            where += " and purpose = ?"
            values.append(purpose)
        return self._page("files", FileRecord, owner, after, limit, newest_first, where, tuple(values))

    def delete_file(self, name: str, owner: str) -> None:
        """Raises ``ObjectNotFound``, or ``Conflict`` while a batch needs it."""
        self.file(name, owner)
        with self._transaction():
            user = self._db.execute(
                "select id from batches where input_file_id = ? and ended = 0", (name,)
            ).fetchone()
            if user is not None:
                raise Conflict(f"The batch {user[0]} reads the file {name}.", hint="Cancel the batch first.")
            self._db.execute("delete from files where id = ?", (name,))
        self.content(name).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Delete the files that have expired and that no batch needs."""
        with self._transaction():
            gone = self._db.execute(
                "delete from files where expires_at <= ? and id not in"
                " (select input_file_id from batches where ended = 0) returning id",
                (now(),),
            ).fetchall()
        for (name,) in gone:
            self.content(name).unlink(missing_ok=True)

    def add_batch(self, record: BatchRecord, most_open: int) -> None:
        """Take in a batch. Raises ``Conflict`` if its owner has ``most_open`` that have not ended."""
        with self._transaction():
            (count,) = self._db.execute(
                "select count(*) from batches where owner = ? and ended = 0", (record.owner,)
            ).fetchone()
            if count >= most_open:
                raise Conflict(
                    f"{count} batches have not ended yet.", hint="Wait for some of them, or cancel them."
                )
            self._db.execute(
                "insert into batches (id, owner, input_file_id, ended, record) values (?, ?, ?, 0, ?)",
                (record.id, record.owner, record.input_file_id, msgspec.json.encode(record)),
            )

    def save_batch(self, record: BatchRecord, files: tuple[FileRecord, ...] = ()) -> None:
        """Write a batch's row, and in the same transaction those of its files, whose contents are in place.

        One that has ended is not written again.
        """
        with self._transaction():
            for file in files:
                self._insert_file(file)
            self._db.execute(
                "update batches set ended = ?, record = ? where id = ? and ended = 0",
                (record.ended, msgspec.json.encode(record), record.id),
            )

    def batch(self, name: str, owner: str) -> BatchRecord:
        """Raises ``ObjectNotFound``, also for a batch of another owner."""
        with self._lock:
            row = self._db.execute(
                "select record from batches where id = ? and owner = ?", (name, owner)
            ).fetchone()
        if row is None:
            raise ObjectNotFound(f"There is no batch {name!r}.", hint="See GET /v1/batches.", param="id")
        return msgspec.json.decode(row[0], type=BatchRecord)

    def batches(self, owner: str, *, after: str | None, limit: int) -> tuple[list[BatchRecord], bool]:
        """A page of an owner's batches behind ``after``, the newest first. Raises ``ObjectNotFound``."""
        return self._page("batches", BatchRecord, owner, after, limit, True, "1", ())

    def open_batches(self) -> list[BatchRecord]:
        """Those of all owners that have not ended, the oldest first."""
        with self._lock:
            rows = self._db.execute("select record from batches where ended = 0 order by place").fetchall()
        return [msgspec.json.decode(row[0], type=BatchRecord) for row in rows]

    def _page(
        self,
        table: str,
        kind: type[Row],
        owner: str,
        after: str | None,
        limit: int,
        newest_first: bool,
        where: str,
        values: tuple[object, ...],
    ) -> tuple[list[Row], bool]:
        direction, beyond = ("desc", "<") if newest_first else ("asc", ">")
        with self._lock:
            if after is not None:
                # An expired or deleted place cannot be gone on from: places are not kept longer than rows.
                found = self._db.execute(
                    f"select place from {table} where id = ? and owner = ?",  # noqa: S608 - our own words
                    (after, owner),
                ).fetchone()
                if found is None:
                    raise ObjectNotFound(f"There is nothing named {after!r} to go on from.", param="after")
                where, values = f"{where} and place {beyond} ?", (*values, found[0])
            rows = self._db.execute(
                f"select record from {table} where owner = ? and {where} order by place {direction} limit ?",  # noqa: S608
                (owner, *values, limit + 1),
            ).fetchall()
        return [msgspec.json.decode(row[0], type=kind) for row in rows[:limit]], len(rows) > limit

    def _require_limit(self, count: int) -> None:
        (held,) = self._db.execute("select coalesce(sum(bytes), 0) from files").fetchone()
        if held + count > self._limit:
            raise DiskFull(
                f"The files here may have {self._limit} bytes together, and {held} are taken.",
                hint="Delete files, or start the server with a larger --data-limit.",
            )

    def _insert_file(self, record: FileRecord) -> None:
        self._db.execute(
            "insert into files (id, owner, purpose, bytes, expires_at, record) values (?, ?, ?, ?, ?, ?)",
            (
                record.id,
                record.owner,
                record.purpose,
                record.bytes,
                record.expires_at,
                msgspec.json.encode(record),
            ),
        )

    def _prepare(self) -> None:
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = full")  # an answered upload survives a power cut
        (version,) = self._db.execute("pragma user_version").fetchone()
        if version > _VERSION:
            raise MachineError(
                f"The data folder {self._root} was written by a newer version.",
                hint="Install that version, or choose another --data-dir.",
            )
        if version == 0:
            self._db.executescript(f"begin; {_SCHEMA} pragma user_version = {_VERSION}; commit;")

    def _clean(self) -> None:
        """Delete what a killed process left: parts, and contents that nothing refers to."""
        known = {name for (name,) in self._db.execute("select id from files")}
        for record in self.open_batches():
            known |= {record.output_id, record.errors_id}
        for path in (*(self._root / "parts").iterdir(), *(self._root / "files").iterdir()):
            if path.parent.name == "parts" or path.name not in known:
                path.unlink()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, disk_errors(self._root), self._db:
            yield


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn a full disk into ``DiskFull``, whoever met it."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _full(folder) from error
        raise
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise _full(folder) from error
        raise


def _full(folder: Path) -> DiskFull:
    return DiskFull(f"The disk of {folder} is full.", hint=_HINT)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
