"""One real model for the whole folder, and the environment that other projects' clients are installed in
(`make install-clients`)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import anthropic
import pytest

from tests.serving import MODEL, Served, serving

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(__file__).resolve().parent / "programs"


@pytest.fixture(scope="package")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    data = str(tmp_path_factory.mktemp("data"))
    with serving(MODEL, "--backend", "openvino", "--data-dir", data) as server:
        server.until_ready()
        yield server


@pytest.fixture(scope="package")
def claude(served: Served) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=served.url, api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture(scope="session")
def clients_python() -> str:
    python = ROOT / ".venv-clients" / "bin" / "python"
    if not (python.parent.parent / ".installed").exists():
        pytest.skip("the clients are not installed: make install-clients")
    return str(python)


@pytest.fixture(scope="session")
def node() -> str:
    node = shutil.which("node")
    if node is None or not (PROGRAMS / "node_modules").is_dir():
        pytest.skip("node and its packages are not here: install node and npm, then make install-clients")
    return node
