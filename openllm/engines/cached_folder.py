"""Folders in the cache that hold a model in a form of ours: named by what they come from, whole or absent."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from openllm.errors import DiskFull, WeightsError

_SPARE_BYTES = 64 << 20


def folder_for(source: Path, cache: Path, engine: str, form: str, version: int) -> Path:
    """Where the form of ``source`` is kept; another path, size, time of change or ``version`` is another
    folder. Raises ``WeightsError`` if the source cannot be read."""
    try:
        state = source.stat()
    except OSError as error:
        raise WeightsError(f"{source} cannot be read: {error.strerror}.", hint="Check the path.") from error
    key = f"{source.resolve()}\0{state.st_size}\0{state.st_mtime_ns}\0{form}\0{version}"
    return cache / f"{engine}-{source.stem[:60]}-{form}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def check_disk(cache: Path, need: int, what: str) -> None:
    """Raise ``DiskFull`` unless ``need`` bytes and some to spare are free in ``cache``, which is made."""
    cache.mkdir(parents=True, exist_ok=True)
    need += _SPARE_BYTES
    free = shutil.disk_usage(cache).free
    if need > free:
        raise DiskFull(
            f"Converting {what} needs {need >> 20} MiB in {cache}; {free >> 20} MiB are free.",
            hint="Free some space, or choose another cache folder.",
        )


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder to fill, that becomes ``target`` if the body succeeds and vanishes if it does not.

    Sweeps away what killed processes left. Raises ``WeightsError`` if it cannot be written.
    """
    for left in target.parent.glob(f"{target.name}.part-*"):
        if not _alive(int(left.name.rpartition("-")[2])):
            shutil.rmtree(left, ignore_errors=True)
    part = target.with_name(f"{target.name}.part-{os.getpid()}")
    try:
        part.mkdir()
        yield part
        with contextlib.suppress(OSError):  # another process was faster: its folder is as good
            part.rename(target)
        if not target.is_dir():
            raise OSError(f"{target} could not be made")
    except OSError as error:
        raise WeightsError(
            f"The converted model could not be written to {target.parent}: {error.strerror or error}.",
            hint="Check the free space and the permissions of the cache folder.",
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
