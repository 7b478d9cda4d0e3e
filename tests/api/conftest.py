"""One server with the echo engine and SmolLM2's real tokenizer for the whole folder."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import openai
import pytest

from tests.serving import MODEL, Served, serving


@pytest.fixture(scope="package")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(MODEL, "--backend", "echo", "--data-dir", str(tmp_path_factory.mktemp("data"))) as server:
        server.until_ready()
        yield server


@pytest.fixture(scope="package")
def client(served: Served) -> Iterator[openai.OpenAI]:
    with served.client as made:
        yield made


@pytest.fixture(scope="package")
def http(served: Served) -> Iterator[httpx.Client]:
    with served.http() as made:
        yield made
