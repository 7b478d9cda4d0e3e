"""Parts of the weights tests: a hub on loopback, a store, and reporters that remember."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from openllm.weights.progress import QuietReporter
from openllm.weights.settings import HubSettings
from openllm.weights.store import Store
from tests.weights.loopback_hub import LoopbackHub


class Recorder(QuietReporter):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.totals: list[tuple[int, int]] = []
        self.arrived = 0
        self.notes: list[str] = []

    def start(self, total: int, label: str, done: int = 0) -> None:
        self.totals.append((total, done))

    def advance(self, count: int) -> None:
        self.arrived += count

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with LoopbackHub() as running:
        yield running


@pytest.fixture
def settings(hub: LoopbackHub, tmp_path: Path) -> HubSettings:
    return HubSettings(cache=str(tmp_path / "hub"), endpoint=hub.url, timeout=3.0)


@pytest.fixture
def empty_store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()
