"""A checkpoint in the cache is a variant of its model, for every command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from openllm.cli.resolve import find_manifests
from openllm.cli.settings import Settings, read_settings
from openllm.weights.made import RECORD, made_folder, made_manifests
from openllm.weights.manifest import Manifest

GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False, "sym": True}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return read_settings(
        {"OPENLLM_MODELS": str(tmp_path / "recipes")}, cache=tmp_path / "cache", offline=True
    )


def make(settings: Settings, tiny: Path, published: Manifest, mode: str = "gptq") -> Path:
    """The files of a GPTQ checkpoint as far as they are looked at without an engine: its config says what it is."""
    folder = made_folder(settings.cache, published, mode)
    shutil.copytree(tiny, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": GPTQ}))
    (folder / RECORD).write_text("{}")
    return folder


def test_it_is_a_variant(settings: Settings, tiny: Path) -> None:
    published = find_manifests("smollm2", settings)
    folder = make(settings, tiny, published[0])
    found = find_manifests("smollm2:135m-instruct", settings)
    assert [each.variant for each in found] == ["q4_1", "bf16", "gptq"]
    made = found[-1]
    assert made.name == "smollm2:135m-instruct"
    assert made.quantization == "gptq"
    assert made.chat == published[0].chat
    assert made.source.path == str(folder)  # type: ignore[union-attr]
    (named,) = find_manifests("smollm2@gptq", settings)
    assert named == made


@pytest.mark.parametrize(
    ("quantize", "order"), [("gptq", ["q4_1", "gptq", "bf16"]), ("int8", ["q4_1", "bf16", "gptq"])]
)
def test_what_is_asked_for_follows_the_default(
    settings: Settings, tiny: Path, quantize: str, order: list[str]
) -> None:
    make(settings, tiny, find_manifests("smollm2", settings)[0])
    found = find_manifests("smollm2", settings, quantize=quantize)
    assert [each.variant for each in found] == order


def test_other_models_have_none_of_it(settings: Settings, tiny: Path) -> None:
    make(settings, tiny, find_manifests("smollm2", settings)[0])
    assert "gptq" not in [each.variant for each in find_manifests("smollm2:360m", settings)]


def test_a_folder_of_ones_own(settings: Settings, tiny: Path) -> None:
    published = find_manifests(str(tiny), settings)
    make(settings, tiny, published[0])
    assert [each.variant for each in find_manifests(str(tiny), settings)] == ["safetensors", "gptq"]


def test_a_name_that_is_taken(settings: Settings, tiny: Path) -> None:
    published = find_manifests("smollm2", settings)
    make(settings, tiny, published[0], mode="bf16")
    assert made_manifests(settings.cache, published)[0].variant == "bf16-local"


def test_half_of_one_is_left_out(settings: Settings, tiny: Path) -> None:
    published = find_manifests("smollm2", settings)
    folder = make(settings, tiny, published[0])
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert made_manifests(settings.cache, published) == []
    (folder / RECORD).unlink()
    assert made_manifests(settings.cache, published) == []
