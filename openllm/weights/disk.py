"""Is there room on the disk, and what to say when there is not."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openllm.errors import DiskFull, WeightsError
from openllm.weights.sizes import size_text

# Left free for everything else that runs here: a disk filled to the last byte breaks more than us.
MARGIN = 64 * 1024 * 1024

HUB_HINT = "Free some space, or set HF_HOME to a folder on a larger disk."
STORE_HINT = "Free some space, or set OPENLLM_CACHE to a folder on a larger disk."


def free_bytes(folder: Path) -> int:
    """Bytes that may be written under ``folder``, which need not exist yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def require_space(folder: Path, needed: int, *, hint: str) -> None:
    """Raise ``DiskFull`` unless ``needed`` bytes and a margin are free where ``folder`` is."""
    free = free_bytes(folder)
    missing = needed + MARGIN - free
    if missing > 0:
        raise DiskFull(
            f"Not enough disk space in {folder}: {size_text(needed)} needed, {size_text(free)} free, "
            f"{size_text(missing)} missing.",
            hint=hint,
        )


@contextmanager
def disk_errors(folder: Path, *, hint: str) -> Iterator[None]:
    """Turn "no space left" and "quota exceeded" into ``DiskFull``, and a refusal to write into ``WeightsError``."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise full_disk(folder, hint=hint) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise WeightsError(
                f"{error.filename or folder} cannot be written: {error.strerror}.",
                hint="Give this user the right to write there, or set OPENLLM_CACHE and HF_HOME to other folders.",
            ) from error
        raise


def full_disk(folder: Path, *, hint: str) -> DiskFull:
    """The error for a disk that ran full while writing."""
    return DiskFull(f"The disk of {folder} ran full: {size_text(free_bytes(folder))} left.", hint=hint)
