"""The files of a model, wherever they are: a folder of this machine, or a repository of the hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from openllm.errors import WeightsError
from openllm.weights.hub_cache import files_under
from openllm.weights.hub_files import RepoFile


class ModelTree(Protocol):
    """Files that can be listed, and read in pieces."""

    @property
    def files(self) -> Sequence[RepoFile]:
        """Every file."""

    @property
    def safetensors_counts(self) -> Mapping[str, int] | None:
        """Numbers in the safetensors files by their type (BF16, ...), where somebody has counted already."""

    def read(self, path: str, begin: int = 0, end: int | None = None) -> bytes:
        """The bytes from ``begin`` to before ``end`` (None: to the last). Raises a ``WeightsError``."""


class FolderTree:
    """A folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = files_under(folder)
        self.safetensors_counts: Mapping[str, int] | None = None

    def read(self, path: str, begin: int = 0, end: int | None = None) -> bytes:
        try:
            with (self.folder / path).open("rb") as file:
                file.seek(begin)
                return file.read(-1 if end is None else end - begin)
        except OSError as error:
            raise WeightsError(
                f"{self.folder / path} cannot be read: {error.strerror or error}.",
                hint="Check the path and its permissions.",
            ) from error


def has(tree: ModelTree, path: str) -> bool:
    """Is there a file of exactly this path?"""
    return any(file.path == path for file in tree.files)
