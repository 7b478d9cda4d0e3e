"""The recipes that come with the package: sound, reachable under the names people type, and described to editors."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from openllm.recipes.json_schema import FILE, json_schema
from openllm.recipes.recipe_file import RecipeFile
from openllm.recipes.registry import Found, Registry, names_of, shipped_folder
from openllm.recipes.schema import HubSource, Variant

FOLDER = shipped_folder()
PATHS = sorted(FOLDER.glob("*.yaml"))
REGISTRY = Registry.open([FOLDER])
MODELS = REGISTRY.models()
VARIANTS = [
    pytest.param(found, v, id=f"{found.name}@{v.name}") for found in MODELS for v in found.model.variants
]


def test_every_recipe_is_sound_and_no_name_is_given_twice() -> None:
    assert REGISTRY.problems == ()
    assert len({found.family.family for found in MODELS}) == len(PATHS) >= 40
    assert len(MODELS) >= 100


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("smollm2", "smollm2:135m-instruct"),
        ("smollm2:1.7b", "smollm2:1.7b-instruct"),
        ("llama2", "llama2:7b-chat"),
        ("llama-2-7b", "llama2:7b-chat"),
        ("Llama-2", "llama2:7b-chat"),
        ("llama2:13b", "llama2:13b-chat"),
        ("llama2:13b-chat", "llama2:13b-chat"),
        ("llama2-70b-chat", "llama2:70b-chat"),
        ("meta-llama/llama-2-7b-chat-hf", "llama2:7b-chat"),
        ("meta-llama/Llama-2-13b-hf", "llama2:13b-base"),
        ("TheBloke/Llama-2-7B-Chat-GPTQ", "llama2:7b-chat"),
        ("llama3.1", "llama3.1:8b-instruct"),
        ("llama3.2:1b", "llama3.2:1b-instruct"),
        ("qwen2.5:0.5b", "qwen2.5:0.5b-instruct"),
        ("qwen3", "qwen3:8b"),
        ("qwen3-0.6b", "qwen3:0.6b"),
        ("Qwen/Qwen3-4B-AWQ", "qwen3:4b"),
        ("mistral", "mistral:7b-instruct-v0.3"),
        ("deepseek-r1:1.5b", "deepseek-r1:1.5b-distill-qwen"),
        ("gpt-oss-20b", "gpt-oss:20b"),
        ("phi-4-mini", "phi4:mini-instruct"),
        ("bge-m3", "bge:m3"),
    ],
)
def test_names_that_people_type(name: str, model: str) -> None:
    assert REGISTRY.find(name).name == model


@pytest.mark.parametrize("model", ["llama2:7b-chat", "llama2:13b-chat", "llama2:70b-chat", "llama2:7b-base"])
@pytest.mark.parametrize("quantization", ["gptq", "awq"])
def test_llama2_can_be_had_quantized_without_accepting_a_licence(model: str, quantization: str) -> None:
    found = REGISTRY.find(f"{model}@{quantization}")
    assert found.variant is not None
    assert found.variant.quantization == quantization
    assert not found.gated
    assert REGISTRY.find(model).gated


def test_every_name_leads_to_its_model_and_every_hub_id_to_a_model_that_has_it() -> None:
    for found in MODELS:
        for name, model in names_of(found.family).items():
            assert REGISTRY.find(name).model == model
        for variant in found.model.variants:
            if isinstance(variant.source, HubSource):
                again = REGISTRY.find_hub(variant.source.hub)
                assert again is not None
                assert again.variant is not None
                assert isinstance(again.variant.source, HubSource)
                assert again.variant.source.hub == variant.source.hub


@pytest.mark.parametrize("found", MODELS, ids=[found.name for found in MODELS])
def test_parameters_are_enough_for_the_shape(found: Found) -> None:
    shape = found.model.shape
    embedding = shape.vocabulary * shape.hidden
    attention = 0
    if shape.latent_kv is None:  # MLA's projections are of another form
        heads = 2 * shape.heads + 2 * shape.kv_heads
        attention = (shape.attention_layers or shape.layers) * shape.hidden * shape.head_size * heads
    assert embedding + attention < shape.parameters
    size = re.search(r"(?<![\w.])(\d+(?:\.\d+)?)([bm])(?![a-z])", found.model.name)
    if size and "x" not in found.model.name:
        named = float(size[1]) * {"b": 1e9, "m": 1e6}[size[2]]
        assert 0.75 * named < shape.parameters < 1.4 * named


@pytest.mark.parametrize(("found", "variant"), VARIANTS)
def test_variants_agree_with_where_they_come_from(found: Found, variant: Variant) -> None:
    assert "echo" not in variant.engines
    if not isinstance(variant.source, HubSource):
        return
    repo = variant.source.hub.lower()
    for sign in ("gptq", "awq", "fp8", "gguf", "int4-ov", "int8-ov"):
        if repo.endswith(sign):
            assert sign.removesuffix("-ov") in f"{variant.quantization} {variant.format}"
    if variant.format == "gguf":
        (file,) = variant.source.files
        assert variant.quantization.removeprefix("gguf-") in file.lower()


def test_a_look_up_parses_only_the_files_that_hold_the_name() -> None:
    files = [RecipeFile.open(path) for path in PATHS]
    for name in ("smollm2", "llama2:13b", "qwen3:8b", "mistral", "meta-llama/llama-2-7b-chat-hf"):
        assert [file.stem for file in files if file.could_hold(name)] == [REGISTRY.find(name).family.family]


def test_the_json_schema_is_current() -> None:
    current = (FOLDER / FILE).read_text(encoding="utf-8")
    assert current == json_schema(), "run: python -m openllm.recipes.json_schema"


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = json.loads((FOLDER / FILE).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("path", PATHS, ids=[path.stem for path in PATHS])
def test_the_json_schema_fits_every_recipe(validator: Any, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"# yaml-language-server: $schema={FILE}\n")
    assert text.count("\n# ") >= 1, "say where the facts were looked up"
    validator.validate(yaml.safe_load(text))


def test_the_json_schema_refuses_what_the_registry_refuses(validator: Any) -> None:
    recipe = yaml.safe_load(PATHS[0].read_text(encoding="utf-8"))
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({**recipe, "contxt": 1})
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({key: value for key, value in recipe.items() if key != "models"})
