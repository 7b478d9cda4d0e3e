"""The folder where fetched weights live, and the marks that say which are whole.

Layout under the root:

    files/<key>/...     what a source delivered, or what was converted from it
    ready/<key>.json    written last: the weights, and every file with its size
    tmp/<key>/          being fetched; wiped by the next one that holds the lock
    locks/<key>.lock    held while fetching, so that two processes fetch once

Hub files stay in the hub's own shared cache: only their mark is here. Local files have no mark at all.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from openllm.errors import WeightsError
from openllm.weights.manifest import HubFiles, LocalPath, Manifest, PypiFile, PypiFolder, Weights


class StoredFile(msgspec.Struct, frozen=True):
    """A file that must be there: its path, relative to the store's root where it is inside, and its bytes."""

    path: str
    bytes: int


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """That ``weights`` are whole: every file of theirs was verified when this was written."""

    weights: Weights
    files: tuple[StoredFile, ...]


def default_root() -> Path:
    """The user's cache folder for openllm. Reads no variable of our own: that is the command line's work."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("openllm", appauthor=False))


def key(manifest: Manifest) -> str:
    """A file name for what ``manifest`` names: readable, and different when source or format differ."""
    digest = hashlib.sha256(msgspec.json.encode((manifest.source, manifest.format))).hexdigest()
    return f"{_label(manifest)}-{digest[:16]}"


def _label(manifest: Manifest) -> str:
    match manifest.source:
        case HubFiles(repo=repo):
            label = repo
        case PypiFile(package=package, version=version) | PypiFolder(package=package, version=version):
            label = f"{package}-{version}"
        case LocalPath(path=path):
            label = Path(path).name
    return re.sub(r"[^\w.-]+", "--", label)[:80]


class Store:
    """Weights that were fetched to this machine. Safe to use from several processes."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, name: str) -> Path:
        """Where the files of ``name`` are published."""
        return self.root / "files" / name

    def ready(self, manifest: Manifest) -> Weights | None:
        """The weights if they are here and whole, else None. Quick: stats the files, reads none of them.

        A local path is used in place; of its files the headers are read.
        """
        if isinstance(manifest.source, LocalPath):
            return _ready_in_place(manifest.source, manifest)
        return self.marked(key(manifest))

    def marked(self, name: str) -> Weights | None:
        """As ``ready``, by name: for what is converted from weights."""
        try:
            mark = msgspec.json.decode(self._mark_path(name).read_bytes(), type=Mark)
        except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
            return None
        if not all(self._whole(file) for file in mark.files):
            return None
        return self._moved(mark.weights, self._absolute)

    def mark(self, name: str, weights: Weights, files: Iterable[Path]) -> Weights:
        """Say that ``weights`` are whole. Call it last, when all of ``files`` are verified and on disk."""
        stored = tuple(StoredFile(self._relative(str(file)), file.stat().st_size) for file in files)
        mark = Mark(weights=self._moved(weights, self._relative), files=stored)
        write_atomically(self._mark_path(name), msgspec.json.encode(mark))
        return weights

    @contextmanager
    def lock(self, name: str, waiting: Callable[[], None]) -> Iterator[None]:
        """Hold the right to fetch ``name``. Blocks while another process has it, after calling ``waiting``.

        The lock ends with the process, however that ends.
        """
        path = self.root / "locks" / f"{name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def workspace(self, name: str) -> Iterator[Path]:
        """An empty folder on the store's disk, deleted afterwards. Needs the lock of ``name``."""
        folder = self.root / "tmp" / name
        shutil.rmtree(folder, ignore_errors=True)  # left by a process that was killed
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, made: Path, name: str) -> Path:
        """Move a finished folder of the workspace to its place, replacing what is there. Atomic for readers:
        the mark is written later."""
        target = self.folder(name)
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        made.rename(target)
        sync_folder(target.parent)
        return target

    def remove(self, manifest: Manifest) -> int:
        """Delete what the store holds of ``manifest``: the mark first, then the files. Returns bytes freed.

        Files in the hub's shared cache stay: other programs use them too.
        """
        name = key(manifest)
        self._mark_path(name).unlink(missing_ok=True)
        folder = self.folder(name)
        freed = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        shutil.rmtree(folder, ignore_errors=True)
        return freed

    def _mark_path(self, name: str) -> Path:
        return self.root / "ready" / f"{name}.json"

    def _whole(self, file: StoredFile) -> bool:
        try:
            return os.stat(self._absolute(file.path)).st_size == file.bytes
        except OSError:
            return False

    def _absolute(self, path: str) -> str:
        return os.path.join(self.root, path)

    def _relative(self, path: str) -> str:
        return str(Path(path).relative_to(self.root)) if Path(path).is_relative_to(self.root) else path

    @staticmethod
    def _moved(weights: Weights, move: Callable[[str], str]) -> Weights:
        return msgspec.structs.replace(weights, path=move(weights.path), tokenizer=move(weights.tokenizer))


def _ready_in_place(source: LocalPath, manifest: Manifest) -> Weights | None:
    from openllm.weights.local import open_local

    try:
        return open_local(source, manifest.format)
    except WeightsError:
        return None


def write_atomically(path: Path, content: bytes) -> None:
    """Write a small file so that a reader sees all of it or none, even after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Put a rename inside ``folder`` on disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
