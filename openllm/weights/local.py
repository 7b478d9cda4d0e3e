"""Weights of this machine, used in place."""

from __future__ import annotations

from pathlib import Path

from openllm.errors import CorruptFile
from openllm.weights.manifest import Format, LocalPath, Weights


def open_local(source: LocalPath, format: Format) -> Weights:
    """The weights at a local path. Raises ``CorruptFile`` if what was inspected is no longer there."""
    path = Path(source.path)
    if not path.exists():
        raise CorruptFile(f"{path} is no longer there.", hint="Check the path, or that its disk is mounted.")
    return Weights(path=str(path), format=format, tokenizer=str(path))
