"""What a name means: families, aliases, tags, variants, hub ids; folders that win; near misses."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openllm.errors import InvalidRecipe, UnknownModel
from openllm.recipes.names import normal, parse
from openllm.recipes.registry import Registry, names_of, shipped_folder, user_folder
from tests.recipes.family_text import GOOD, line_of, put, second_model, with_line


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(tmp_path / "shipped", "parrot.yaml", GOOD)
    return tmp_path / "shipped"


@pytest.mark.parametrize(
    "name",
    [
        "parrot",
        "Parrot",
        "polly",
        "polly:7b-chat",
        "parrot:7b-chat",
        "PARROT:7B_CHAT",
        "parrot:7b",
        "polly:7b",
        "parrot-7b-chat",
        "parrot_seven",
        " parrot ",
    ],
)
def test_every_spelling_of_a_name_finds_the_model(folder: Path, name: str) -> None:
    found = Registry.open([folder]).find(name)
    assert found.name == "parrot:7b-chat"
    assert found.variant is None


@pytest.mark.parametrize("name", ["parrot@q8_0", "polly:7b@Q8-0", "aviary/parrot-7b-chat-gguf"])
def test_a_name_may_say_the_variant(folder: Path, name: str) -> None:
    found = Registry.open([folder]).find(name)
    assert found.variant is not None
    assert found.variant.name == "q8_0"


def test_a_hub_id_is_found_whatever_its_case_and_an_unknown_one_is_none(folder: Path) -> None:
    registry = Registry.open([folder])
    found = registry.find_hub("aviary/PARROT-7b-chat")
    assert found is not None
    assert found.variant is not None
    assert found.variant.name == "bf16"
    assert registry.find_hub("Aviary/Parrot") is None


def test_what_a_model_leaves_unsaid_is_its_familys(folder: Path) -> None:
    text = second_model("70b-chat") + "    license: mit\n    gated: true\n"
    put(folder, "parrot.yaml", text.replace("- name: q8_0", "- name: q8_0\n        gated: false"))
    registry = Registry.open([folder])
    seven, seventy = registry.find("parrot"), registry.find("parrot:70b")
    assert (seven.license, seven.chat.tools) == ("apache-2.0", "none")
    assert seventy.license == "mit"
    assert [seven.gated_for(variant) for variant in seven.model.variants] == [False, False]
    assert [seventy.gated_for(variant) for variant in seventy.model.variants] == [True, False]
    assert [registry.find(name).gated for name in ("parrot:70b", "parrot:70b@q8_0")] == [True, False]


def test_a_start_that_fits_two_models_is_refused_and_both_are_named(folder: Path) -> None:
    put(folder, "parrot.yaml", second_model("7b-base"))
    with pytest.raises(UnknownModel, match="more than one") as caught:
        Registry.open([folder]).find("parrot:7b")
    assert "parrot:7b-chat or parrot:7b-base" in str(caught.value.hint)


def test_an_exact_name_goes_before_a_start(folder: Path) -> None:
    put(folder, "parrot.yaml", second_model("7b"))
    assert Registry.open([folder]).find("parrot:7b").model.name == "7b"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("parot", "Did you mean parrot"),
        ("parrot-sevn", "parrot-seven"),
        ("parrot:8b", "parrot:7b-chat"),
        ("aviary/parrot-8b-chat", "aviary/parrot-7b-chat"),
        ("parrot@q9", "parrot:7b-chat@bf16 or parrot:7b-chat@q8_0"),
        ("zzz", "'openllm models' lists all"),
        ("", "'openllm models' lists all"),
    ],
)
def test_a_near_miss_is_answered_with_the_nearest_names(folder: Path, name: str, hint: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        Registry.open([folder]).find(name)
    assert hint in str(caught.value.hint)


def test_a_file_of_an_earlier_folder_replaces_the_one_of_the_same_name(tmp_path: Path, folder: Path) -> None:
    put(folder, "parrot.yaml", second_model("70b-chat"))
    put(tmp_path / "mine", "parrot.yaml", with_line("context: 4096", "context: 999"))
    registry = Registry.open([tmp_path / "mine", folder])
    assert registry.find("parrot").model.context == 999
    assert [found.name for found in registry.models()] == ["parrot:7b-chat"]
    with pytest.raises(UnknownModel):
        registry.find("parrot:70b-chat")


def test_a_name_of_an_earlier_folder_wins(tmp_path: Path, folder: Path) -> None:
    mine = with_line("family: parrot", "family: magpie").replace("parrot-seven", "magpie-seven")
    put(tmp_path / "mine", "magpie.yaml", mine)
    registry = Registry.open([tmp_path / "mine", folder])
    assert registry.find("polly").name == "magpie:7b-chat"
    assert registry.find("parrot").name == "parrot:7b-chat"
    assert registry.problems == ()


def test_folders_that_do_not_exist_are_skipped(tmp_path: Path, folder: Path) -> None:
    assert Registry.open([tmp_path / "none", folder]).find("parrot").name == "parrot:7b-chat"


def test_a_broken_file_stops_only_the_names_that_it_could_hold(tmp_path: Path, folder: Path) -> None:
    text = with_line("family: parrot", "family: magpie").replace("context:", "contxt:")
    broken = put(tmp_path / "mine", "magpie.yaml", text + "# made from parrot\n")
    registry = Registry.open([tmp_path / "mine", folder])
    assert registry.find("parrot:7b-chat").name == "parrot:7b-chat"
    assert [str(problem).startswith(str(broken)) for problem in registry.problems] == [True]
    with pytest.raises(InvalidRecipe, match=r"magpie\.yaml:10: .*contxt"):
        registry.find("magpie")
    with pytest.raises(InvalidRecipe, match=r"magpie\.yaml:10: .*contxt"):
        registry.find("polly")


def test_a_name_given_by_two_files_of_a_folder_is_an_error_of_the_second(folder: Path) -> None:
    other = with_line("family: parrot", "family: quail").replace("polly", "quaily")
    put(folder, "quail.yaml", other)
    line = line_of(other, "aliases: [parrot-seven]")
    registry = Registry.open([folder])
    with pytest.raises(
        InvalidRecipe, match=rf"quail\.yaml:{line}: models\[0\]\.aliases\[0\]: .*parrot-seven"
    ):
        registry.find("parrot-seven")
    assert [problem.param for problem in registry.problems] == ["models[0].aliases[0]"]
    assert registry.find("quail").name == "quail:7b-chat"


def test_the_users_folder_is_under_the_config_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert user_folder().name == "models"
    assert user_folder().parent.name == "openllm"


_WORD = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,20}", fullmatch=True)


@given(_WORD)
def test_normal_form_is_one_and_forgets_case_and_underscores(name: str) -> None:
    assert normal(normal(name)) == normal(name)
    assert normal(name.upper()) == normal(name.lower()) == normal(name)
    assert normal(name.replace("-", "_")) == normal(name)


@given(_WORD, _WORD)
def test_a_query_keeps_all_that_was_typed(name: str, variant: str) -> None:
    query = parse(f"{name}@{variant}")
    assert (query.name, query.variant) == (normal(name), normal(variant))
    assert query.name == (f"{query.family}:{query.tag}" if ":" in query.name else query.family)


_SHIPPED = Registry.open([shipped_folder()])
_NAMES = sorted(name for found in _SHIPPED.models() for name in names_of(found.family))


@given(st.sampled_from(_NAMES), st.data())
def test_a_shipped_name_is_found_however_it_is_spelled(name: str, data: st.DataObject) -> None:
    letters = [data.draw(st.sampled_from([c, c.upper(), "_" if c == "-" else c])) for c in name]
    found = _SHIPPED.find("".join(letters))
    assert found == _SHIPPED.find(name)
    assert names_of(found.family)[normal(name)] == found.model
