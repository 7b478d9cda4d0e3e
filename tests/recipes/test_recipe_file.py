"""What is wrong with a recipe file: one line that names file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from openllm.errors import InvalidRecipe
from openllm.recipes.recipe_file import RecipeFile
from tests.recipes.family_text import GOOD, line_of, put, second_model, with_line


def wrong(tmp_path: Path, text: str, name: str = "parrot.yaml") -> InvalidRecipe:
    file = RecipeFile.open(put(tmp_path, name, text))
    with pytest.raises(InvalidRecipe) as caught:
        _ = file.family
    assert caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value


_BAD = [
    # what is replaced, by what, the key that is named, what is said
    ("context: 4096", "contxt: 4096", "models[0].contxt", "did you mean 'context'?"),
    ("heads: 32\n", "hedas: 32\n", "models[0].shape.hedas", "did you mean 'heads'?"),
    ("publisher: Aviary", "publisher: Aviary\nqqqq: 1", "qqqq", "known are family, title"),
    ("files: [parrot", "file: [parrot", "models[0].variants[1].source.file", "did you mean 'files'?"),
    ("{hub: Aviary", "{hubb: Aviary", "models[0].variants[0].source", "one of the keys hub, pypi, path"),
    ("layers: 32", "layers: many", "models[0].shape.layers", "valid integer, not 'many'"),
    ("layers: 32", "layers: 3.5", "models[0].shape.layers", "valid integer, not 3.5"),
    ("layers: 32", "layers: 0", "models[0].shape.layers", "greater than 0, not 0"),
    ("engines: [openvino]", "engines: [openvin]", "models[0].variants[1].engines[0]", "'openvino'"),
    ("engines: [openvino]", "engines: []", "models[0].variants[1].engines", "at least 1 item"),
    ("engines: [openvino]", "engines: [vllm, vllm]", "models[0].variants[1].engines[1]", "named twice"),
    ("[vllm, tr", "[openvino, tr", "models[0].variants[0].engines[0]", "only of models that encode"),
    ("gguf-q8_0", "gptq", "models[0].variants[1].quantization", "the format gguf holds no gptq"),
    ("dtype: bfloat16", "quantization: gguf-f16", "models[0].variants[0].quantization", "holds no gguf-f16"),
    ("          files: [parrot-7b-chat.Q8_0.gguf]\n", "", "models[0].variants[1].source", "gguf files"),
    ("{hub: Aviary/Parrot-7B-Chat}", "{path: here}", "models[0].variants[0].source.path", "not absolute"),
    ("kv_heads: 8", "kv_heads: 7", "models[0].shape.kv_heads", "not a multiple of 7"),
    ("layers: 32", "layers: 32\n      windowed_layers: 4", "models[0].shape.windowed_layers", "sliding"),
    ("family: parrot", "family: parakeet", "family", "the file is named 'parrot'"),
    ("default: 7b-chat", "default: 9b", "default", "no model of this file is named 9b"),
    ("name: q8_0", "name: BF16", "models[0].variants[1].name", "match pattern"),
    ("name: q8_0", "name: bf16", "models[0].variants[1].name", "two variants are named bf16"),
    ("[parrot-seven]", "[polly]", "models[0].aliases[0]", "polly is given twice"),
    ("[polly]", "[parrot]", "aliases[0]", "parrot is given twice"),
    ("title: Parrot\n", "", "title", "missing"),
    ("title: Parrot", "title: Parrot\ntitle: Polly", "title", "the key is given twice"),
    ("title: Parrot", "title: 2.0", "title", "valid string, not 2.0"),
    ("{hub: Aviary/Parrot-7B-Chat}", "{pypi: a, version: '1', folder: b, files: []}",
     "models[0].variants[0].source.files", "at least 1 item"),
    ("{hub: Aviary/Parrot-7B-Chat}", "{pypi: a, version: '1', folder: b, files: [{path: ../c, bytes: 1, sha256: "
     + "a" * 64 + "}]}", "models[0].variants[0].source.files[0].path", "does not lie in the folder"),
    ("{hub: Aviary/Parrot-7B-Chat}", "{pypi: a, version: '1', folder: b, fils: []}",
     "models[0].variants[0].source.fils", "did you mean 'files'?"),
    ("title: Parrot", "title: 2024-01-31", "title", "valid string"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "key", "said"), _BAD)
def test_a_fault_is_named_with_file_line_and_key(
    tmp_path: Path, old: str, new: str, key: str, said: str
) -> None:
    text = with_line(old, new)
    error = wrong(tmp_path, text)
    path, line, rest = error.message.split(":", 2)
    assert path == str(tmp_path / "parrot.yaml")
    assert error.param == key
    assert rest.startswith(f" {key}: ")
    assert said in rest
    last = key.rpartition(".")[2].partition("[")[0]
    if "missing" in said:
        assert line == "1"
    elif last in new:
        assert last in text.splitlines()[int(line) - 1]


def test_lines_are_those_of_the_key(tmp_path: Path) -> None:
    text = with_line("kv_heads: 8", "kv_heads: 7")
    assert f":{line_of(text, 'kv_heads')}: " in wrong(tmp_path, text).message
    text = second_model("70b-chat", "[parrot-seven]")
    line = len(GOOD[: GOOD.index("aliases: [parrot-seven]")].splitlines())
    added = len(GOOD.splitlines()) - line_of(GOOD, "  - name: 7b-chat") + 1
    assert f":{line + added}: models[1].aliases[0]: " in wrong(tmp_path, text).message


def test_the_first_of_several_faults_is_told_and_the_others_counted(tmp_path: Path) -> None:
    text = with_line("layers: 32", "layers: x").replace("hidden: 4096", "hidden: y")
    error = wrong(tmp_path, text)
    assert error.param == "models[0].shape.layers"
    assert "(and 1 more in this file)" in error.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("family: [parrot\n", ":2: not YAML: "),
        ("family: parrot\n\ttitle: x\n", ":2: not YAML: "),
        ("", ":1: a recipe is a mapping"),
        ("- family\n", ":1: a recipe is a mapping"),
        ("family: *nobody\n", ":1: not YAML: "),
        ("family: !!python/name:os.system parrot\n", ":1: not YAML: "),
        ("a: &a [*a]\n", ":1: "),
        ("? [x]\n: 1\n", ":1: "),
        ("title: 2024-99-99\n", ": not YAML: "),
        ("title: a\x00b\n", ": not YAML: "),
    ],
)
def test_what_is_not_a_recipe_at_all_is_one_line_too(tmp_path: Path, text: str, said: str) -> None:
    assert f"parrot.yaml{said}" in wrong(tmp_path, text).message


def test_a_file_that_cannot_be_read_is_one_line_too(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes("title: Züri".encode("latin-1"))
    (tmp_path / "folder.yaml").mkdir()
    for name, said in (("latin.yaml", "not UTF-8 text"), ("folder.yaml", "Is a directory")):
        with pytest.raises(InvalidRecipe, match=f"{name}: {said}"):
            _ = RecipeFile.open(tmp_path / name).family


def test_a_file_is_ruled_out_by_its_text_alone(tmp_path: Path) -> None:
    file = RecipeFile.open(put(tmp_path, "parrot.yaml", GOOD))
    for name in ("parrot", "parrot:9b", "parrot-7b-chat", "polly", "polly:x", "aviary/parrot-7b-chat"):
        assert file.could_hold(name), name
    for name in ("parro", "parrots", "parrot2", "aviary", "7b", "parrot-7b-chat-gguf/x"):
        assert not file.could_hold(name) or name == "parrot-7b-chat-gguf/x", name
