"""Keep the tokenizer built from a GGUF file, so that the next start reads it in place of building it."""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import msgspec
from tokenizers import Tokenizer

from openllm.chat import gguf_tokenizer
from openllm.chat.tokenizer_facts import TokenizerFacts
from openllm.formats.gguf_header import read_header

FORMAT = 3
"""Raise it when the building changes: older entries are then not found."""


def load_gguf(path: Path, cache: Path | None) -> tuple[Tokenizer, TokenizerFacts]:
    """The tokenizer of a .gguf file, from ``cache`` (a folder, made if needed) when it was built before.

    An entry is one file: a line of JSON with the facts, then tokenizer.json. It is found by the file's path, size
    and time of change, written atomically, and built anew if it cannot be read; a cache that cannot be written is
    done without. Blocks. Raises ``CorruptFile``, ``UnsupportedOption`` and ``WeightsError`` as building does.
    """
    if cache is None:
        return _build(path)
    entry = _entry(path, cache)
    known = _read(entry)
    if known is not None:
        return known
    built = _build(path)
    with suppress(OSError):
        _write(entry, *built)
    return built


def _build(path: Path) -> tuple[Tokenizer, TokenizerFacts]:
    source = gguf_tokenizer.vocabulary(read_header(path).metadata)
    return gguf_tokenizer.build(source), gguf_tokenizer.facts(source)


def _entry(path: Path, cache: Path) -> Path:
    try:
        state = path.stat()
        key = f"{FORMAT} {path.resolve()} {state.st_size} {state.st_mtime_ns}"
    except OSError:
        key = f"{FORMAT} {path}"  # read_header reports the missing file
    return cache / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.tokenizer"


def _read(entry: Path) -> tuple[Tokenizer, TokenizerFacts] | None:
    try:
        head, _, body = entry.read_bytes().partition(b"\n")
        return Tokenizer.from_buffer(body), msgspec.json.decode(head, type=TokenizerFacts)
    except Exception:  # tokenizers raises plain Exception; whatever it is, the entry is made anew
        return None


def _write(entry: Path, tokenizer: Tokenizer, facts: TokenizerFacts) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=entry.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.encode(facts) + b"\n" + _quick_to_read(tokenizer.to_str()))
        os.replace(name, entry)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _quick_to_read(text: str) -> bytes:
    """The same tokenizer.json with merges in the older form, "left right", which is read in two thirds of the
    time. It cannot say parts with spaces."""
    content = msgspec.json.decode(text)
    lines = [" ".join(merge) for merge in content["model"]["merges"]]
    if all(line.count(" ") == 1 and not line.startswith("#version") for line in lines):
        content["model"]["merges"] = lines
    return msgspec.json.encode(content)
