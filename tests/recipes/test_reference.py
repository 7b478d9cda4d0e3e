"""What was typed: a recipe's name, a hub id, or a path."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openllm.errors import UnknownModel
from openllm.recipes.reference import HubId, LocalPath, RecipeName, parse_reference


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("llama2", RecipeName("llama2")),
        ("llama2:13b-chat", RecipeName("llama2:13b-chat")),
        ("Llama_2:13B@gptq", RecipeName("Llama_2:13B@gptq")),
        (" smollm2:135m-instruct@q4_1 ", RecipeName("smollm2:135m-instruct@q4_1")),
        ("qwen2.5", RecipeName("qwen2.5")),
        ("meta-llama/Llama-2-7b-hf", HubId("meta-llama/Llama-2-7b-hf")),
        ("Qwen/Qwen2.5-0.5B@main", HubId("Qwen/Qwen2.5-0.5B", "main")),
        ("org/name@refs/pr/1", HubId("org/name", "refs/pr/1")),
        ("./folder", LocalPath(Path("folder"))),
        (".", LocalPath(Path())),
        ("/data/model", LocalPath(Path("/data/model"))),
        ("~/model", LocalPath(Path.home() / "model")),
        ("model.gguf", LocalPath(Path("model.gguf"))),
        ("org/Model.Q8_0.GGUF", LocalPath(Path("org/Model.Q8_0.GGUF"))),
    ],
)
def test_each_kind_is_told_apart(text: str, reference: object) -> None:
    assert parse_reference(text) == reference


def test_a_path_that_exists_goes_before_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert parse_reference("org/name") == LocalPath(Path("org/name"))
    assert parse_reference("org/other") == HubId("org/other")


def test_a_bare_word_is_a_recipe_even_beside_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "llama2").mkdir()
    monkeypatch.chdir(tmp_path)
    assert parse_reference("llama2") == RecipeName("llama2")


@pytest.mark.parametrize(
    "text", ["", " ", "a b", "org/name/more", "org/", "--flag", "a/b@", "org/.name", "ü"]
)
def test_what_is_none_of_them_is_refused(text: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        parse_reference(text)
    assert "openllm models" in str(caught.value.hint)


@given(st.text(max_size=30).filter(lambda text: "\x00" not in text))
def test_any_text_is_a_reference_or_an_unknown_model(text: str) -> None:
    try:
        reference = parse_reference(text)
    except UnknownModel:
        return
    assert isinstance(reference, RecipeName | HubId | LocalPath)
