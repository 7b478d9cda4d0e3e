"""What a model is shown: the bundled texts, and files of a user's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from openllm.chat.tokenizer import ChatTokenizer
from openllm.errors import UsageError
from openllm.quantize.calibration import (
    BOOK,
    HELD_OUT,
    LENGTH,
    Calibration,
    held_out,
    read_calibration,
    template_of,
)

LINE = "A lock lets boats climb a hill, and no pump is needed. "


def read(path: Path | None, tokenizer: ChatTokenizer, count: int = 16, seed: int = 0) -> Calibration:
    return read_calibration(path, tokenizer, template_of(tokenizer, "tokenizer"), count, seed)


def test_the_bundled_texts_are_chats_and_prose(tokenizer: ChatTokenizer) -> None:
    shown = read(None, tokenizer, count=64)
    assert len(shown.samples) == 64
    assert 5 <= shown.templated <= 20
    texts = [tokenizer.decode(sample, skip_special_tokens=False) for sample in shown.samples]
    assert sum("<|im_start|>assistant" in text for text in texts) == shown.templated
    assert all(len(sample) <= LENGTH for sample in shown.samples)
    assert shown.tokens > 60 * LENGTH


def test_the_same_seed_gives_the_same_samples(tokenizer: ChatTokenizer) -> None:
    first = read(None, tokenizer, seed=3)
    assert first == read(None, tokenizer, seed=3)
    assert first.samples != read(None, tokenizer, seed=4).samples


def test_what_is_measured_on_was_not_shown(tokenizer: ChatTokenizer) -> None:
    book = BOOK.read_text()
    paragraphs = [text for text in HELD_OUT.read_text().split("\n\n") if len(text) > 80]
    assert len(paragraphs) > 30
    assert not [text for text in paragraphs if text in book]
    assert sum(map(len, held_out(tokenizer))) > 2500


def test_a_model_without_a_template_is_shown_prose_only(tokenizer: ChatTokenizer) -> None:
    shown = read_calibration(None, tokenizer, None, 64, 0)
    assert shown.templated == 0
    assert "conversations" not in shown.origin


def test_a_text_file(tokenizer: ChatTokenizer, tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text(LINE * 300)
    shown = read(path, tokenizer)
    assert shown.origin == "own.txt"
    assert shown.templated == 0
    assert 7 <= len(shown.samples) <= 10


def test_lines_of_json(tokenizer: ChatTokenizer, tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    lines: list[dict[str, object]] = [{"text": LINE * 100}]
    lines.append({"prompt": "Say it.", "completion": LINE * 60})
    lines.append(
        {"messages": [{"role": "user", "content": "Again."}, {"role": "assistant", "content": LINE * 60}]}
    )
    path.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    shown = read(path, tokenizer)
    text = "".join(tokenizer.decode(sample, skip_special_tokens=False) for sample in shown.samples)
    assert "<|im_start|>user\nSay it.<|im_end|>" in text
    assert "<|im_start|>user\nAgain.<|im_end|>" in text
    assert shown.templated >= 2


def test_separators_of_lines_within_json(tokenizer: ChatTokenizer, tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({"text": "one\u2028two\x85" + LINE * 300}, ensure_ascii=False) + "\r\n")
    assert read(path, tokenizer).tokens > 2048


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("short.txt", b"Too short.", "at least 2048 are needed"),
        ("none.txt", None, "cannot be read"),
        ("bytes.txt", b"\xff\xfe\x00", "no UTF-8"),
        ("bad.jsonl", b'{"text": "a"}\n{"txt": "b"}\n', "Line 2"),
        ("broken.jsonl", b'{"text": ', "Line 1"),
        ("words.jsonl", b'{"messages": ["Hello"]}\n', "Line 1"),
    ],
)
def test_a_file_that_will_not_do(
    name: str, content: bytes | None, said: str, tokenizer: ChatTokenizer, tmp_path: Path
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=said) as caught:
        read(path, tokenizer)
    assert caught.value.hint
