"""One server with the echo engine and SmolLM2's real tokenizer for the whole folder."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from tests.serving import MODEL, Served, serving


@pytest.fixture(scope="package")
def served(echo: Served) -> Served:
    """What a module asks unless it has a server of its own."""
    return echo


@pytest.fixture(scope="package")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(MODEL, "--backend", "echo", "--data-dir", str(tmp_path_factory.mktemp("data"))) as server:
        server.until_ready()
        yield server


@pytest.fixture(scope="package")
def vllm_float32() -> Iterator[Served]:
    """vLLM, of which a start takes ten seconds, in numbers that round the same in every batch."""
    if find_spec("vllm") is None:
        pytest.skip("vllm is not installed")
    with serving(MODEL, "--backend", "vllm", "--dtype", "float32") as server:
        server.until_ready(240)
        yield server
