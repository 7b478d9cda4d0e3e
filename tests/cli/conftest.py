"""The command line as a user runs it: a child process with an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from openllm.cli import main

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An empty cache, the recipes that are shipped and those of tmp_path/recipes, and a hub that is a closed
    port."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "OPENLLM_"))}
    return kept | {
        "OPENLLM_CACHE": str(tmp_path / "cache"),
        "OPENLLM_MODELS": str(tmp_path / "recipes"),
        "OPENLLM_STATE": str(tmp_path / "state"),
        "HF_HOME": str(tmp_path / "hub"),
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "NO_COLOR": "1",
    }


@pytest.fixture
def openllm(environ: dict[str, str]) -> Run:
    """Run ``openllm ARGS`` in a child process."""

    def run(*args: str, stdin: str = "", **extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "openllm.cli.main", *args],
            input=stdin, capture_output=True, text=True, timeout=120, env=environ | extra, check=False,
        )  # fmt: skip

    return run


@pytest.fixture
def command(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """The same in this process, which is ten times quicker."""

    def run(*args: str, **extra: str) -> subprocess.CompletedProcess[str]:
        for key in os.environ.keys() - environ.keys():
            monkeypatch.delenv(key)
        for key, value in (environ | extra).items():
            monkeypatch.setenv(key, value)
        code = main.run(args)
        said = capsys.readouterr()
        return subprocess.CompletedProcess(args, code, said.out, said.err)

    return run


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    """The user's own folder of recipes."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    return folder
