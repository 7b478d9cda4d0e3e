"""What is told of a LoRA adapter from its settings and its header, and what is refused before an engine sees it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from openllm.errors import InvalidAdapter, OfflineMiss, UsageError
from openllm.weights.adapter import Adapter, AdapterRef, inspect_adapter, parse_adapter
from openllm.weights.manifest import HubFiles, LocalPath
from openllm.weights.settings import HubSettings
from tests.lora import ATTENTION, SMOLLM2, write_adapter

ONE_LAYER = SMOLLM2._replace(layers=1)


def inspect(folder: Path | str, cache: Path | None = None) -> Adapter:
    hub = HubSettings(cache=str(cache or "no-cache"), endpoint="http://127.0.0.1:9")
    return inspect_adapter(AdapterRef("mine", str(folder)), hub=hub, offline=True)


def test_its_facts(tmp_path: Path) -> None:
    adapter = inspect(write_adapter(tmp_path / "a", 1, rank=4, modules=ATTENTION))
    assert adapter.source == LocalPath(path=str(tmp_path / "a"))
    assert (adapter.rank, adapter.hidden, adapter.layers) == (4, 576, 30)
    assert adapter.base == "SmolLM2-135M-Instruct"
    assert adapter.bytes == 30 * 4 * (2 * 576 + 576 + 192) * 4


def test_the_widest_rank_counts(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", 1, rank=4, modules=ATTENTION, rank_pattern={"q_proj": 32})
    assert inspect(folder).rank == 32


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"peft_type": "IA3"}, "IA3"),
        ({"use_dora": True}, "DoRA"),
        ({"bias": "all"}, "biases"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"r": 0}, "rank"),
        ({"r": "8"}, "rank"),
        ({"rank_pattern": {"q_proj": 1024}}, "1024"),
    ],
)
def test_settings_that_no_engine_honours(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidAdapter, match=said) as caught:
        inspect(write_adapter(tmp_path / "a", 1, modules=ATTENTION, shape=ONE_LAYER, **change))
    assert caught.value.hint


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_missing_file(tmp_path: Path, name: str) -> None:
    folder = write_adapter(tmp_path / "a", 1, modules=ATTENTION, shape=ONE_LAYER)
    (folder / name).unlink()
    with pytest.raises(InvalidAdapter, match=name):
        inspect(folder)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_file_that_is_cut_short(tmp_path: Path, keep: int) -> None:
    folder = write_adapter(tmp_path / "a", 1, modules=ATTENTION, shape=ONE_LAYER)
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InvalidAdapter):
        inspect(folder)


@pytest.mark.parametrize("text", ["{", "[]", '{"peft_type": "LORA", "r": [}'])
def test_settings_that_are_no_json_object(tmp_path: Path, text: str) -> None:
    folder = write_adapter(tmp_path / "a", 1, modules=ATTENTION, shape=ONE_LAYER)
    (folder / "adapter_config.json").write_text(text)
    with pytest.raises(InvalidAdapter, match=r"adapter_config\.json"):
        inspect(folder)


def test_a_whole_model_is_no_adapter(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    folder = write_adapter(tmp_path / "a", 1, modules=ATTENTION, shape=ONE_LAYER)
    save_file(
        {"model.embed_tokens.weight": np.zeros((4, 4), np.float32)}, folder / "adapter_model.safetensors"
    )
    with pytest.raises(InvalidAdapter, match=r"model\.embed_tokens\.weight"):
        inspect(folder)


@pytest.mark.parametrize(
    "where",
    ["./nowhere", "nowhere", "/no/such/folder", "~nobody-here/x", "no\0where", "./" + "x" * 300, "x" * 5000],
)
def test_a_folder_that_is_not_there(where: str) -> None:
    with pytest.raises(InvalidAdapter) as caught:
        inspect(where)
    assert "adapter_config.json" in str(caught.value.hint)


def test_a_hub_id_that_is_in_the_shared_cache(tmp_path: Path) -> None:
    commit = "0" * 40
    repo = tmp_path / "models--org--sql"
    write_adapter(repo / "snapshots" / commit, 1, rank=4, modules=ATTENTION, shape=SMOLLM2._replace(layers=2))
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    adapter = inspect("org/sql", tmp_path)
    assert adapter.source == HubFiles(repo="org/sql")
    assert adapter.layers == 2


def test_a_hub_id_that_is_not_here_when_offline(tmp_path: Path) -> None:
    with pytest.raises(OfflineMiss):
        inspect("org/sql", tmp_path)


def test_names_and_paths() -> None:
    assert parse_adapter("sql=./a=b") == AdapterRef("sql", "./a=b")
    for text in ("sql", "=x", "sql=", "s q=x", "-x=y", "x" * 200 + "=y"):
        with pytest.raises(UsageError):
            parse_adapter(text)


def test_settings_are_read_as_peft_writes_them(tmp_path: Path) -> None:
    """PEFT's own files, made by PEFT."""
    peft = pytest.importorskip("peft")
    folder = write_adapter(tmp_path / "a", 1, rank=4, modules=ATTENTION)
    config = peft.LoraConfig.from_pretrained(str(folder))
    config.save_pretrained(str(tmp_path / "again"))
    saved = json.loads((tmp_path / "again" / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(saved))
    assert inspect(folder).rank == 4
