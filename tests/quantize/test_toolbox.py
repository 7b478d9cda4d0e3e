"""The environment of the tools: made once, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from openllm.errors import DiskFull, OfflineMiss, SourceUnavailable
from openllm.quantize import toolbox
from openllm.quantize.toolbox import PINS, Toolbox

SAID: list[str] = []


def tools(cache: Path) -> Toolbox:
    """With an installer that finds nothing: no index, no folder of wheels, no cache."""
    nothing = {"UV_OFFLINE": "1", "UV_CACHE_DIR": str(cache / "uv"), "UV_FIND_LINKS": str(cache)}
    nothing |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(cache)}
    return Toolbox(cache, {**os.environ, **nothing})


def test_every_package_is_pinned() -> None:
    lines = [line for line in PINS.read_text().splitlines() if line and not line.startswith("#")]
    assert all("==" in line for line in lines)
    assert {"torch==2.13.0", "gptqmodel==7.7.0"} <= set(lines)
    assert not [line for line in lines if line.startswith(("torchvision", "torchaudio"))]


def test_offline(tmp_path: Path) -> None:
    with pytest.raises(OfflineMiss, match="--offline") as caught:
        tools(tmp_path).ensure(SAID.append, offline=True)
    assert "without --offline" in (caught.value.hint or "")
    assert not tools(tmp_path).folder.exists()


def test_an_index_that_has_nothing(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match="could not be installed"):
        tools(tmp_path).ensure(SAID.append, offline=False)
    assert tools(tmp_path).folder.is_dir()
    assert not tools(tmp_path).ready


def test_what_is_half_made_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The installer is replaced by one that writes a file: the real one is at work in test_real."""
    made = tools(tmp_path)
    made.python.parent.mkdir(parents=True)
    made.python.write_text("left by one that was killed")
    assert not made.ready

    def run(self: Toolbox, command: Sequence[str], report: object) -> None:
        if "venv" in command:
            assert not self.folder.exists()
            self.python.parent.mkdir(parents=True)
            self.python.write_text("new")

    monkeypatch.setattr(Toolbox, "_run", run)
    monkeypatch.setattr(Toolbox, "_tried", lambda self, command: True)
    assert made.ensure(SAID.append, offline=False).read_text() == "new"
    assert made.ready
    assert made.ensure(SAID.append, offline=True) == made.python


def test_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolbox, "_BYTES", 1 << 60)
    with pytest.raises(DiskFull):
        tools(tmp_path).ensure(SAID.append, offline=False)


def test_other_pins_are_another_environment(tmp_path: Path) -> None:
    assert Toolbox(tmp_path, {}).folder != Toolbox(tmp_path, {}, gpu=True).folder
