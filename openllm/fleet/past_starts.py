"""How long earlier starts of each model took, kept in one small file of the cache."""

from __future__ import annotations

import contextlib
from pathlib import Path
from threading import Lock

import msgspec

from openllm.fleet.headway import expected, learnt
from openllm.weights.store import write_atomically

_NAME = "starts.json"
_MOST_MODELS = 500
_turn = Lock()  # several models of one server may become ready together


class PastStarts:
    """``key`` names a model and how it is run. Reads and writes block, briefly; a file that cannot be read is begun
    anew, and one that cannot be written is done without."""

    def __init__(self, folder: Path, key: str) -> None:
        self._path = folder / _NAME
        self._key = key

    def expected(self) -> float | None:
        """Seconds that a start should take; None if none is remembered."""
        return expected(self._read().get(self._key, []))

    def learn(self, seconds: float) -> None:
        """A start took so long."""
        with _turn:
            known = self._read()
            latest = learnt(known.pop(self._key, []), seconds)
            kept = dict(list(known.items())[-_MOST_MODELS + 1 :])
            kept[self._key] = latest  # the newest last
            with contextlib.suppress(OSError):
                write_atomically(self._path, msgspec.json.encode(kept))

    def _read(self) -> dict[str, list[float]]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, list[float]])
        except (OSError, msgspec.DecodeError):
            return {}
