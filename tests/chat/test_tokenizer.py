from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors

from openllm.chat import tokenizer_cache
from openllm.chat.tokenizer import load_tokenizer
from openllm.errors import CorruptFile, UsageError, WeightsError
from tests.chat.gguf_bytes import gguf
from tests.chat.test_gguf_tokenizer import small

WORDS = ("<s>", "</s>", "<|im_end|>", "<|end|>", "a", "b")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder with a tokenizer of six words, and a truncation that some models ship with."""
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="a"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens([AddedToken(word, special=True) for word in WORDS[:4]])
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    backend.enable_truncation(2)
    backend.enable_padding(length=7)
    backend.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def write(folder: Path, name: str, content: object) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def test_folder(folder: Path) -> None:
    write(
        folder,
        "tokenizer_config.json",
        {
            "bos_token": "<s>",
            "eos_token": {"content": "</s>", "lstrip": False, "__type": "AddedToken"},
            "chat_template": "{{ 1 }}",
            "model_max_length": 1e30,
        },
    )
    write(folder, "generation_config.json", {"eos_token_id": [1, 5], "temperature": 0.6})
    tokenizer = load_tokenizer(folder)
    assert (tokenizer.bos_token, tokenizer.bos_id) == ("<s>", 0)
    assert (tokenizer.eos_token, tokenizer.eos_id) == ("</s>", 1)
    assert tokenizer.stop_ids == (1, 5, 2, 3)
    assert (tokenizer.chat_template, tokenizer.tool_template) == ("{{ 1 }}", None)
    assert tokenizer.vocabulary == 6
    assert tokenizer.encode("a b a b", add_special_tokens=True) == [0, 4, 5, 4, 5]
    assert tokenizer.encode("a b a b", add_special_tokens=False) == [4, 5, 4, 5]
    assert tokenizer.decode([0, 4, 5, 1]) == "a b"
    assert tokenizer.decode([0, 4], skip_special_tokens=False) == "<s> a"


def test_bare_folder(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    assert (tokenizer.bos_token, tokenizer.bos_id, tokenizer.eos_token, tokenizer.eos_id) == (None,) * 4
    assert tokenizer.stop_ids == (2, 3)
    assert tokenizer.chat_template is None


def test_special_tokens_map_fills_in(folder: Path) -> None:
    write(folder, "tokenizer_config.json", {"bos_token": None})
    write(folder, "special_tokens_map.json", {"bos_token": {"content": "<s>"}, "eos_token": "</s>"})
    tokenizer = load_tokenizer(folder)
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<s>", "</s>")
    assert tokenizer.special_tokens == {"bos_token": "<s>", "eos_token": "</s>"}


@pytest.mark.parametrize(
    ("flags", "ids"),
    [
        ({"add_bos_token": False}, [4]),
        ({"add_bos_token": True, "add_eos_token": True}, [0, 4, 1]),
        ({"add_eos_token": True}, [4, 1]),
    ],
)
def test_config_decides_on_bos_and_eos(folder: Path, flags: dict[str, bool], ids: list[int]) -> None:
    write(folder, "tokenizer_config.json", {"bos_token": "<s>", "eos_token": "</s>", **flags})
    assert load_tokenizer(folder).encode("a", add_special_tokens=True) == ids


def test_added_tokens_of_the_config_are_added(folder: Path) -> None:
    write(folder, "tokenizer_config.json", {"added_tokens_decoder": {"6": {"content": "<tool>"}}})
    assert load_tokenizer(folder).encode("a<tool>", add_special_tokens=False) == [4, 6]


def test_named_templates(folder: Path) -> None:
    named = [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]
    write(folder, "tokenizer_config.json", {"chat_template": named})
    tokenizer = load_tokenizer(folder)
    assert (tokenizer.chat_template, tokenizer.tool_template) == ("d", "t")


def test_template_files_win(folder: Path) -> None:
    write(folder, "tokenizer_config.json", {"chat_template": "old"})
    write(folder, "chat_template.jinja", "new")
    write(folder, "additional_chat_templates/tool_use.jinja", "tools")
    tokenizer = load_tokenizer(folder)
    assert (tokenizer.chat_template, tokenizer.tool_template) == ("new", "tools")


def test_stop_tokens_of_the_recipe(folder: Path) -> None:
    assert load_tokenizer(folder, stop=("b",)).stop_ids == (2, 3, 5)
    with pytest.raises(UsageError, match="'<nope>' is not in the model's vocabulary"):
        load_tokenizer(folder, stop=("<nope>",))


def test_end_of_a_harmony_message_ends_no_turn(folder: Path) -> None:
    added = {str(index): {"content": name} for index, name in ((6, "<|return|>"), (7, "<|call|>"))}
    write(folder, "tokenizer_config.json", {"added_tokens_decoder": added})
    assert load_tokenizer(folder).stop_ids == (2, 6, 7)


def test_folder_without_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no tokenizer\.json"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", "{}"),
        ("tokenizer_config.json", "{"),
        ("tokenizer_config.json", '{"chat_template": 3}'),
        ("tokenizer_config.json", '{"bos_token": "<x>", "add_bos_token": true}'),
        ("generation_config.json", '{"eos_token_id": "x"}'),
        ("chat_template.jinja", b"\xff"),
    ],
)
def test_damaged_folder(folder: Path, name: str, content: str | bytes) -> None:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CorruptFile):
        load_tokenizer(folder)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "small.gguf"
    path.write_bytes(gguf(small() | {"tokenizer.chat_template": "{{ messages }}"}))
    return path


def same(one: Path, cache: Path) -> None:
    fresh, cached = load_tokenizer(one), load_tokenizer(one, cache)
    assert cached.backend.to_str() == fresh.backend.to_str()
    for name in (
        "bos_id",
        "eos_id",
        "bos_token",
        "eos_token",
        "stop_ids",
        "chat_template",
        "vocabulary",
        "special_tokens",
    ):
        assert getattr(cached, name) == getattr(fresh, name)


def test_gguf(model: Path) -> None:
    tokenizer = load_tokenizer(model)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.stop_ids) == (1, 2, (2,))
    assert tokenizer.chat_template == "{{ messages }}"
    assert tokenizer.encode("ab", add_special_tokens=True) == [1, 7, 6]


@pytest.mark.parametrize("merges", [["a b"], ["a  b", "  b"], ["#version b"]])
def test_merges_survive_the_cache(tmp_path: Path, merges: list[str]) -> None:
    tokens = ["a", "b", " ", " b", "ab", "a b", "  b", "#version", "#versionb", "\u0120"]
    metadata = small(
        model="gpt2", pre="gpt-2", tokens=tokens, token_type=[1] * 10, scores=None, merges=merges
    )
    path = tmp_path / "merges.gguf"
    path.write_bytes(gguf(metadata))
    same(path, tmp_path / "cache")
    same(path, tmp_path / "cache")


def test_cached_gguf_is_not_read_again(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache" / "deep"
    same(model, cache)
    same(model, cache)
    (entry,) = cache.iterdir()
    assert entry.suffix == ".tokenizer"

    def refuse(path: Path) -> None:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(tokenizer_cache, "read_header", refuse)
    assert load_tokenizer(model, cache).bos_id == 1


def test_changed_gguf_is_read_again(model: Path, tmp_path: Path) -> None:
    load_tokenizer(model, tmp_path / "cache")
    model.write_bytes(gguf(small(bos_token_id=2)))
    assert load_tokenizer(model, tmp_path / "cache").bos_id == 2


@pytest.mark.parametrize("damage", [b"", b"{}", b"{}\n{}", b"[1]\n\xff"])
def test_damaged_cache_is_made_anew(model: Path, tmp_path: Path, damage: bytes) -> None:
    cache = tmp_path / "cache"
    same(model, cache)
    (entry,) = cache.iterdir()
    whole = entry.read_bytes()
    entry.write_bytes(damage)
    same(model, cache)
    assert entry.read_bytes() == whole
    assert list(cache.iterdir()) == [entry]


def test_cache_that_cannot_be_written_is_done_without(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    same(model, tmp_path / "file" / "cache")


def test_interrupted_write_leaves_nothing(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: str, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        load_tokenizer(model, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_missing_gguf(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="No such file"):
        load_tokenizer(tmp_path / "none.gguf", tmp_path / "cache")


def test_real_model(smollm2_gguf: Path, tmp_path: Path) -> None:
    same(smollm2_gguf, tmp_path)
    tokenizer = load_tokenizer(smollm2_gguf, tmp_path)
    assert tokenizer.vocabulary == 49152
    assert tokenizer.stop_ids == (2, 0)
    assert tokenizer.decode(tokenizer.encode("Paris, 你好 🦙", add_special_tokens=True)) == "Paris, 你好 🦙"
