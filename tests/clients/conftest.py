"""The environment that other projects' clients are installed in (`make install-clients`)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(__file__).resolve().parent / "programs"


@pytest.fixture(scope="session")
def clients_python() -> str:
    python = ROOT / ".venv-clients" / "bin" / "python"
    if not python.exists():
        pytest.skip("the clients are not installed: make install-clients")
    return str(python)


@pytest.fixture(scope="session")
def node() -> str:
    node = shutil.which("node")
    if node is None or not (PROGRAMS / "node_modules").is_dir():
        pytest.skip("node and its packages are not here: install node, then make install-clients")
    return node
