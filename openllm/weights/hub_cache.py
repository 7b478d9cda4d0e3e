"""The shared cache that all hub clients of this machine use, read and laid out without the client.

Layout (huggingface_hub's, documented as "Understand caching"): ``models--org--name/`` with ``blobs/<etag>``,
``snapshots/<commit>/<path>`` linking to them, and ``refs/<branch>`` holding a commit.
"""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path

from openllm.weights.hub_files import RepoFile

_COMMIT = re.compile(r"[0-9a-f]{40}")


class CachedRepo:
    """One repository's folder in the shared cache."""

    def __init__(self, cache: str, repo: str) -> None:
        self.cache = Path(cache)
        self.folder = self.cache / f"models--{repo.replace('/', '--')}"
        self.locks = self.cache / ".locks" / self.folder.name

    def blob(self, file: RepoFile) -> Path:
        return self.folder / "blobs" / file.etag

    def lock(self, file: RepoFile) -> Path:
        """The lock that the hub's own client holds while it fetches the same blob."""
        return self.locks / f"{file.etag}.lock"

    def snapshot(self, commit: str) -> Path:
        return self.folder / "snapshots" / commit

    def ref(self, revision: str) -> Path:
        """The file that says which commit a branch or tag was at, when last asked."""
        return self.folder / "refs" / revision

    def known_snapshot(self, revision: str | None) -> Path | None:
        """The folder of ``revision`` (commit, branch or tag; None is main) if any of it was fetched."""
        commit = revision or "main"
        if not _COMMIT.fullmatch(commit):
            try:
                commit = self.ref(commit).read_text().strip()
            except OSError:
                return None
        folder = self.snapshot(commit)
        return folder if folder.is_dir() else None


def files_under(folder: Path) -> tuple[RepoFile, ...]:
    """The files of a folder and of the folders in it, as if it were a repository.

    No deeper: a model is laid out so, and a home folder named by mistake is not searched through. Links to blobs
    that are gone are left out.
    """
    return tuple(
        RepoFile(path=path.relative_to(folder).as_posix(), bytes=path.stat().st_size)
        for path in sorted(chain(folder.glob("*"), folder.glob("*/*")))
        if path.is_file()
    )
