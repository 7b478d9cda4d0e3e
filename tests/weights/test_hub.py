"""The hub source: the real client against a hub on loopback."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from openllm.errors import (
    CorruptFile,
    GatedModel,
    InvalidAdapter,
    MissingRevision,
    OfflineMiss,
    SourceUnavailable,
    UnknownModel,
    WeightsError,
)
from openllm.weights.adapter import AdapterRef, inspect_adapter
from openllm.weights.fetch import fetch
from openllm.weights.manifest import HubFiles, Manifest, Weights
from openllm.weights.settings import HubSettings
from openllm.weights.store import Store
from tests.lora import ATTENTION, write_adapter
from tests.weights.builders import llama_files, manifest
from tests.weights.conftest import Recorder
from tests.weights.loopback_hub import LoopbackHub, LoopbackRepo

REPO = "org/model"
MODEL = manifest(HubFiles(repo=REPO))


@pytest.fixture(autouse=True)
def repository(hub: LoopbackHub) -> LoopbackRepo:
    hub.repos[REPO] = LoopbackRepo(llama_files(numbers=2_000_000))
    return hub.repos[REPO]


class Fetcher:
    def __init__(self, store: Store, settings: HubSettings, recorder: Recorder) -> None:
        self.store, self.settings, self.recorder = store, settings, recorder

    def __call__(self, wanted: Manifest = MODEL, *, offline: bool = False, **settings: object) -> Weights:
        hub = msgspec.structs.replace(self.settings, **settings)
        return fetch(wanted, self.store, reporter=self.recorder, offline=offline, hub=hub)


@pytest.fixture
def fetched(empty_store: Store, settings: HubSettings, recorder: Recorder) -> Fetcher:
    return Fetcher(empty_store, settings, recorder)


def test_fetches_what_the_format_needs_into_the_shared_cache(
    fetched: Fetcher, hub: LoopbackHub, repository: LoopbackRepo, recorder: Recorder, settings: HubSettings
) -> None:
    repository.files |= {
        "original/consolidated.00.pth": b"x",
        "pytorch_model.bin": b"x",
        "onnx/model.onnx": b"x",
        "consolidated.safetensors": b"x",
        "model.fp16.safetensors": b"x",
    }
    weights = fetched()
    folder = Path(weights.path)
    wanted = {"config.json", "tokenizer.json", "model.safetensors"}
    assert {path.name for path in folder.iterdir()} == wanted == hub.files_asked()
    assert all((folder / name).read_bytes() == repository.files[name] for name in wanted)
    assert folder.is_relative_to(settings.cache)
    assert weights.tokenizer == weights.path
    size = sum(len(repository.files[name]) for name in wanted)
    assert recorder.totals == [(size, 0)]
    assert recorder.arrived == size


def test_a_second_fetch_asks_the_hub_nothing(fetched: Fetcher, hub: LoopbackHub) -> None:
    first = fetched()
    hub.asked.clear()
    assert fetched() == first
    assert hub.asked == []


def test_the_hub_clients_own_files_are_not_fetched_again(
    fetched: Fetcher, hub: LoopbackHub, settings: HubSettings
) -> None:
    from huggingface_hub import snapshot_download

    snapshot_download(REPO, cache_dir=settings.cache, endpoint=settings.endpoint, token=False)
    hub.asked.clear()
    fetched()
    assert hub.files_asked() == set()


def test_the_hub_client_finds_our_files(fetched: Fetcher, settings: HubSettings) -> None:
    from huggingface_hub import try_to_load_from_cache

    weights = fetched()
    found = try_to_load_from_cache(REPO, "model.safetensors", cache_dir=settings.cache)
    assert found == f"{weights.path}/model.safetensors"


def test_goes_on_where_the_line_was_cut(
    fetched: Fetcher, hub: LoopbackHub, repository: LoopbackRepo, recorder: Recorder
) -> None:
    hub.faults.cuts["model.safetensors"] = [2_500_000, 500_000]
    weights = fetched()
    content = repository.files["model.safetensors"]
    assert Path(weights.path, "model.safetensors").read_bytes() == content
    begins = [
        each.begin for each in hub.asked if each.method == "GET" and each.path.endswith("model.safetensors")
    ]
    assert len(begins) == 3
    assert begins[0] == 0 < begins[1] < begins[2]
    # What was sent and never read from the socket is sent again, and nothing else.
    assert hub.bytes_sent("model.safetensors") < len(content) + 2 * 200_000
    assert recorder.arrived == recorder.totals[0][0]


def test_a_later_fetch_goes_on_where_a_failed_one_stopped(
    fetched: Fetcher, hub: LoopbackHub, repository: LoopbackRepo, recorder: Recorder, settings: HubSettings
) -> None:
    hub.faults.cuts["model.safetensors"] = [2_500_000] + [0] * 6
    with pytest.raises(SourceUnavailable):
        fetched()
    assert not list(Path(settings.cache).rglob("snapshots/*/model.safetensors"))
    hub.asked.clear()
    weights = fetched()
    content = repository.files["model.safetensors"]
    assert Path(weights.path, "model.safetensors").read_bytes() == content
    assert hub.bytes_sent("model.safetensors") <= len(content) - 2_000_000
    assert recorder.totals[1][1] >= 2_000_000


def test_a_hub_without_ranges_is_read_from_the_start(
    fetched: Fetcher, hub: LoopbackHub, repository: LoopbackRepo, recorder: Recorder
) -> None:
    hub.faults.cuts["model.safetensors"] = [2_500_000]
    hub.faults.without_ranges = True
    weights = fetched()
    assert Path(weights.path, "model.safetensors").read_bytes() == repository.files["model.safetensors"]
    assert recorder.arrived == recorder.totals[0][0]


def test_a_damaged_file_is_an_error_and_is_not_kept(
    fetched: Fetcher, hub: LoopbackHub, empty_store: Store, settings: HubSettings
) -> None:
    hub.faults.damaged.add("model.safetensors")
    with pytest.raises(CorruptFile, match="checksum"):
        fetched()
    assert empty_store.ready(MODEL) is None
    assert not [
        path for path in Path(settings.cache).rglob("*") if path.is_file() and path.stat().st_size > 1e6
    ]


def test_a_damaged_part_of_an_earlier_attempt_is_fetched_again(
    fetched: Fetcher, hub: LoopbackHub, repository: LoopbackRepo, settings: HubSettings
) -> None:
    hub.faults.cuts["model.safetensors"] = [2_500_000] + [0] * 6
    with pytest.raises(SourceUnavailable):
        fetched()
    (part,) = Path(settings.cache).rglob("*.openllm.part")
    part.write_bytes(b"?" * part.stat().st_size)
    weights = fetched()
    assert Path(weights.path, "model.safetensors").read_bytes() == repository.files["model.safetensors"]


def test_a_pinned_commit_is_what_is_fetched(fetched: Fetcher, repository: LoopbackRepo) -> None:
    weights = fetched(manifest(HubFiles(repo=REPO, revision=repository.commit)))
    assert Path(weights.path).name == repository.commit


def test_a_missing_revision(fetched: Fetcher) -> None:
    with pytest.raises(MissingRevision, match=r"org/model has no revision v9") as caught:
        fetched(manifest(HubFiles(repo=REPO, revision="v9")))
    assert caught.value.hint is not None


def test_a_missing_repository(fetched: Fetcher) -> None:
    with pytest.raises(UnknownModel, match="has no model org/absent"):
        fetched(manifest(HubFiles(repo="org/absent")))


def test_a_gated_model_without_a_token(fetched: Fetcher, repository: LoopbackRepo) -> None:
    repository.gated, repository.token = True, "hf_right"
    with pytest.raises(GatedModel, match="no token is set") as caught:
        fetched()
    assert "HF_TOKEN" in (caught.value.hint or "")


def test_a_gated_model_with_a_token_of_no_access(fetched: Fetcher, repository: LoopbackRepo) -> None:
    repository.gated, repository.token = True, "hf_right"
    with pytest.raises(GatedModel, match="no access") as caught:
        fetched(token="hf_other")
    assert "hf_other" not in f"{caught.value.message}{caught.value.hint}{fetched.settings}"


def test_a_gated_model_with_its_token(fetched: Fetcher, repository: LoopbackRepo) -> None:
    repository.gated, repository.token = True, "hf_right"
    assert Path(fetched(token="hf_right").path, "config.json").exists()


def test_files_that_are_not_there(fetched: Fetcher) -> None:
    with pytest.raises(WeightsError, match=r"no files for \*\.gguf"):
        fetched(manifest(HubFiles(repo=REPO, patterns=("*.gguf",)), "gguf"))


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_hub_that_is_down(fetched: Fetcher, hub: LoopbackHub, status: int) -> None:
    hub.faults.status = status
    with pytest.raises(SourceUnavailable, match=str(status)):
        fetched()


def test_no_hub_at_all(fetched: Fetcher) -> None:
    with pytest.raises(SourceUnavailable, match="cannot be reached"):
        fetched(endpoint="http://127.0.0.1:1")


def test_a_hub_that_does_not_answer(fetched: Fetcher, hub: LoopbackHub) -> None:
    hub.faults.silent = True
    with pytest.raises(SourceUnavailable, match="cannot be reached"):
        fetched(timeout=0.2)


def test_offline_without_the_files(fetched: Fetcher, hub: LoopbackHub) -> None:
    with pytest.raises(OfflineMiss, match="--offline"):
        fetched(offline=True)
    assert hub.asked == []


def test_offline_with_files_of_another_client(
    fetched: Fetcher, hub: LoopbackHub, settings: HubSettings
) -> None:
    from huggingface_hub import snapshot_download

    folder = snapshot_download(REPO, cache_dir=settings.cache, endpoint=settings.endpoint, token=False)
    hub.asked.clear()
    assert fetched(offline=True).path == folder
    assert hub.asked == []


def test_offline_with_half_of_the_files(fetched: Fetcher, settings: HubSettings) -> None:
    weights = fetched()
    Path(weights.path, "model.safetensors").unlink()
    with pytest.raises(OfflineMiss):
        fetched(offline=True)


def test_a_file_that_vanished_is_fetched_again(fetched: Fetcher, repository: LoopbackRepo) -> None:
    weights = fetched()
    Path(weights.path, "model.safetensors").resolve().unlink()
    assert fetched() == weights
    assert Path(weights.path, "model.safetensors").read_bytes() == repository.files["model.safetensors"]


def test_a_mirror_that_tells_no_hashes_is_left_to_the_client(
    fetched: Fetcher, repository: LoopbackRepo
) -> None:
    repository.tells_hashes = False
    weights = fetched()
    assert Path(weights.path, "model.safetensors").read_bytes() == repository.files["model.safetensors"]


def test_a_name_that_no_repository_can_have(fetched: Fetcher) -> None:
    with pytest.raises(UnknownModel, match="no name of a hub repository"):
        fetched(manifest(HubFiles(repo="org/..model")))


def test_a_lora_adapter_is_inspected_and_only_its_two_files_are_fetched(
    fetched: Fetcher, hub: LoopbackHub, settings: HubSettings, tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "made", 1, rank=4, modules=ATTENTION)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    hub.repos["org/sql"] = LoopbackRepo(files | {"README.md": b"x", "optimizer.safetensors": b"x"})
    adapter = inspect_adapter(AdapterRef("sql", "org/sql"), hub=settings, offline=False)
    assert (adapter.rank, adapter.layers) == (4, 30)
    weights = fetched(adapter.manifest())
    assert {path.name: path.read_bytes() for path in Path(weights.path).iterdir()} == files
    hub.asked.clear()
    assert fetched(adapter.manifest(), offline=True) == weights
    assert inspect_adapter(AdapterRef("sql", "org/sql"), hub=settings, offline=True) == adapter
    assert hub.asked == []


def test_a_repository_that_is_no_adapter(settings: HubSettings) -> None:
    with pytest.raises(InvalidAdapter, match=r"adapter_config\.json"):
        inspect_adapter(AdapterRef("sql", REPO), hub=settings, offline=False)
