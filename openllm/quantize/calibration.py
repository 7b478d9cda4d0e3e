"""What a model is shown while it is quantized: token ids of a user's file, or of the texts that come along."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from openllm.chat.template import ChatTemplate
from openllm.chat.tokenizer import ChatTokenizer
from openllm.errors import RequestError, UsageError

TEXTS = Path(__file__).with_name("texts")
BOOK, DIALOGS, HELD_OUT = TEXTS / "book.txt", TEXTS / "dialogs.jsonl", TEXTS / "held_out.txt"
LENGTH = 512
"""Tokens of a sample."""
_LEAST_TOKENS = 2048
_LARGEST_FILE = 256 << 20

Messages = Sequence[Mapping[str, object]]


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """Samples of at most ``LENGTH`` token ids, and what a reader of the checkpoint should know of them."""

    samples: list[list[int]]
    origin: str
    sha256: str
    templated: int = 0

    @property
    def tokens(self) -> int:
        return sum(map(len, self.samples))


def read_calibration(
    path: Path | None, tokenizer: ChatTokenizer, template: ChatTemplate | None, count: int, seed: int
) -> Calibration:
    """Up to ``count`` samples of ``path``, a .txt or .jsonl file, or of the texts that come along.

    Lines of a .jsonl file have ``text``, ``messages``, or ``prompt`` and ``completion``; conversations are rendered
    with the model's chat template. Which samples are taken, and their order, depends on ``seed`` only. Raises
    ``UsageError`` for a file that cannot be read, is no such file, or holds too little.
    """
    source = _bundled(template is not None) if path is None else _own(path)
    chats = [_render(messages, template, path) for messages in source.chats]
    shuffle = random.Random(seed)  # noqa: S311 - for the same samples with the same seed
    shuffle.shuffle(chats)
    talk = _windows([tokenizer.encode(text, add_special_tokens=False) for text in chats])
    plain = _windows([tokenizer.encode(text, add_special_tokens=True) for text in source.texts])
    _check_length(talk, plain, path)
    shuffle.shuffle(plain)
    # Conversations first: they are what a chat model is asked for, and there are fewer of them.
    chosen = talk[:count] + plain[: max(0, count - len(talk))]
    shuffle.shuffle(chosen)
    return Calibration(
        samples=chosen, origin=source.name, sha256=source.sha256, templated=min(len(talk), count)
    )


def check_file(path: Path) -> None:
    """Raise ``UsageError`` for a file of samples that cannot be read, or is no such file. Quick: no tokens are made."""
    _own(path)


def held_out(tokenizer: ChatTokenizer) -> list[list[int]]:
    """The text on which perplexity is measured, in windows of ``LENGTH`` tokens."""
    ids = tokenizer.encode(HELD_OUT.read_text(encoding="utf-8"), add_special_tokens=False)
    return [window for window in _windows([ids]) if len(window) > 1]


class _Source(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    sha256: str
    texts: list[str]
    chats: list[Messages]


def _bundled(chats: bool) -> _Source:
    contents = [BOOK.read_bytes(), DIALOGS.read_bytes()]
    lines = [msgspec.json.decode(line) for line in contents[1].splitlines()] if chats else []
    return _Source(
        name="openllm: Alice's Adventures in Wonderland 1-11" + (", and conversations" if chats else ""),
        sha256=hashlib.sha256(b"".join(contents if chats else contents[:1])).hexdigest(),
        texts=[contents[0].decode()],
        chats=[line["messages"] for line in lines],
    )


def _own(path: Path) -> _Source:
    try:
        size = path.stat().st_size
        if size > _LARGEST_FILE:
            raise UsageError(
                f"{path} has {size >> 20} MiB; {_LARGEST_FILE >> 20} MiB are read at most.",
                hint="Give a part of it: some hundred pages are plenty.",
                param="calibration",
            )
        raw = path.read_bytes()
        text = raw.decode()
    except OSError as error:
        raise UsageError(
            f"The calibration file {path} cannot be read: {error.strerror}.",
            hint="Check the path, or leave --calibration out to use the texts that come along.",
            param="calibration",
        ) from error
    except UnicodeDecodeError:
        raise UsageError(
            f"The calibration file {path} is no UTF-8 text.",
            hint="Give a .txt or .jsonl file.",
            param="calibration",
        ) from None
    texts: list[str] = [text]
    chats: list[Messages] = []
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        texts, chats = _lines(path, text)
    return _Source(name=path.name, sha256=hashlib.sha256(raw).hexdigest(), texts=texts, chats=chats)


def _lines(path: Path, text: str) -> tuple[list[str], list[Messages]]:
    texts: list[str] = []
    chats: list[Messages] = []
    # Not splitlines: JSON may hold other separators of lines as they are.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            entry = msgspec.json.decode(line)
        except msgspec.DecodeError as error:
            raise _bad_line(path, number, str(error)) from None
        match entry:
            case {"messages": [_, *_] as messages} if all(isinstance(each, dict) for each in messages):
                chats.append(messages)
            case {"prompt": str(prompt), "completion": str(completion)}:
                chats.append(
                    [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]
                )
            case {"text": str(plain)}:
                texts.append(plain)
            case _:
                raise _bad_line(path, number, "it has neither text, nor messages, nor prompt and completion")
    return texts, chats


def _bad_line(path: Path, number: int, why: str) -> UsageError:
    return UsageError(
        f"Line {number} of {path} is no sample: {why}.",
        hint='Write lines like {"text": "..."} or {"messages": [{"role": "user", "content": "..."}]}.',
        param="calibration",
    )


def _render(messages: Messages, template: ChatTemplate | None, path: Path | None) -> str:
    if template is None:  # a model that completes texts is shown their words
        return "\n".join(str(message.get("content", "")) for message in messages)
    try:
        return template.render(messages, add_generation_prompt=False)
    except RequestError as error:
        raise UsageError(
            f"A conversation of {path or 'the bundled texts'} does not fit the model: {error.message}",
            hint="Change its roles and order to those that the model's chat template takes.",
            param="calibration",
        ) from error


def _windows(texts: list[list[int]]) -> list[list[int]]:
    """Texts one after another, cut into samples; the rest at the end is one too if it is not tiny."""
    return list(_cut([index for text in texts for index in text]))


def _cut(ids: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(ids), LENGTH):
        window = ids[start : start + LENGTH]
        if len(window) >= LENGTH // 4 or not start:
            yield window


def _check_length(talk: list[list[int]], plain: list[list[int]], path: Path | None) -> None:
    tokens = sum(map(len, talk + plain))
    if tokens < _LEAST_TOKENS:
        raise UsageError(
            f"The calibration file {path} holds {tokens} tokens; at least {_LEAST_TOKENS} are needed.",
            hint="Give more text: some ten pages, like what the model will be asked for.",
            param="calibration",
        )


def template_of(tokenizer: ChatTokenizer, own: str) -> ChatTemplate | None:
    """The model's chat template: ``own`` of its recipe, or the one that came with it ("tokenizer")."""
    source: Any = tokenizer.chat_template if own == "tokenizer" else own
    return ChatTemplate(source, tokenizer.special_tokens) if source else None
