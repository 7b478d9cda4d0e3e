"""Fetch one file of a repository into the shared cache, going on where an earlier attempt was cut off.

The hub's own client throws away what it has of a file when its process ends (seen in 2.4), so that a killed
download of a large model starts again. Here the part stays under a name of ours beside the blob that it will
become, and becomes it only when its checksum is right.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from threading import Event
from typing import BinaryIO, Protocol

import httpx2
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

from openllm.errors import CorruptFile
from openllm.weights.hub_cache import CachedRepo
from openllm.weights.hub_client import Repository, passing
from openllm.weights.hub_files import RepoFile
from openllm.weights.progress import Reporter

_PIECE = 1 << 20
_TRIES = 5  # in a row without a new byte


class Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


class StoppedError(Exception):
    """Another file of the same fetch has failed: this one need not go on."""


class Download:
    """One file on its way into the shared cache."""

    def __init__(self, repository: Repository, file: RepoFile, cached: CachedRepo) -> None:
        self.repository = repository
        self.file = file
        self.blob = cached.blob(file)
        self.part = self.blob.with_name(f"{self.blob.name}.openllm.part")
        self._lock = cached.lock(file)
        self._cache = cached.cache

    def here(self) -> int:
        """Bytes of it that need not be fetched."""
        for path in (self.blob, self.part):
            if path.exists():
                return min(path.stat().st_size, self.file.bytes)
        return 0

    def run(self, reporter: Reporter, stop: Event) -> None:
        """Fetch what is missing, check it, and put it into its snapshot. Blocks.

        Raises ``CorruptFile`` if what came is not what the hub promised, ``StoppedError`` when ``stop`` is
        set, and the client's errors.
        """
        if self.file.etag:  # a mirror may not tell; then all is left to the client
            self._make_blob(reporter, stop)
        settings = self.repository.settings
        hf_hub_download(
            self.repository.repo,
            self.file.path,
            revision=self.repository.commit,
            cache_dir=self._cache,
            endpoint=settings.endpoint,
            token=settings.token or False,
            etag_timeout=settings.timeout,
        )

    def _make_blob(self, reporter: Reporter, stop: Event) -> None:
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        self.blob.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(self._lock):
            if self.blob.exists():
                return
            resumed = self._fetch(reporter, stop)
            if not self._is_right() and resumed:  # what an earlier attempt left may be to blame
                reporter.advance(-self._discard())
                self._fetch(reporter, stop)
            if not self._is_right():
                self._discard()
                raise CorruptFile(
                    f"{self.file.path} of {self.repository.repo} has not the checksum that the hub gives.",
                    hint="Nothing of it was kept. Run the same command again; a proxy may be changing files.",
                )
            self.part.replace(self.blob)

    def _fetch(self, reporter: Reporter, stop: Event) -> bool:
        """Get the part up to its full size. Says whether it began with bytes of an earlier attempt."""
        began = self.part.stat().st_size if self.part.exists() else 0
        failures = 0
        with self.part.open("ab") as part:
            while part.tell() != self.file.bytes:
                before = part.tell()
                try:
                    self._stream(part, reporter, stop)
                except (HfHubHTTPError, httpx2.TransportError) as error:
                    failures = 0 if part.tell() > before else failures + 1
                    if failures >= _TRIES or not passing(error):
                        raise
                    if stop.wait(min(8.0, 0.25 * 2**failures)):
                        raise StoppedError from error
            part.flush()
            os.fsync(part.fileno())
        return began > 0

    def _stream(self, part: BinaryIO, reporter: Reporter, stop: Event) -> None:
        if part.tell() > self.file.bytes:
            _restart(part, reporter)
        begin = part.tell()
        with self.repository.open(self.file.path, begin) as response:
            if begin and response.status_code == 200:  # the server does not know ranges
                _restart(part, reporter)
            for piece in response.iter_bytes():
                part.write(piece)
                reporter.advance(len(piece))
                if stop.is_set():
                    raise StoppedError
        if part.tell() < self.file.bytes:
            raise httpx2.RemoteProtocolError("the hub ended the file early")

    def _is_right(self) -> bool:
        whole = self.part.stat().st_size == self.file.bytes
        return whole and checksum(self.part, large=self.file.large) == self.file.etag

    def _discard(self) -> int:
        size = self.part.stat().st_size
        self.part.unlink()
        return size


def _restart(part: BinaryIO, reporter: Reporter) -> None:
    reporter.advance(-part.tell())
    part.seek(0)
    part.truncate()


def checksum(path: Path, *, large: bool) -> str:
    """The hub's ETag for the content at ``path``: sha256 of a large file, git's blob id of a small one."""
    digest: Digest
    if large:
        digest = hashlib.sha256()
    else:
        digest = hashlib.sha1(usedforsecurity=False)
        digest.update(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as content:
        while piece := content.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
