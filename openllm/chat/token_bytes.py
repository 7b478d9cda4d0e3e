"""The bytes that each token of a vocabulary stands for: what guides are matched against."""

from __future__ import annotations

from typing import Any

import msgspec
from tokenizers import Tokenizer

from openllm.errors import UnsupportedOption

_SPACE = "\u2581"  # SentencePiece's spelling of a space


def token_bytes(backend: Tokenizer, size: int) -> list[bytes]:
    """One entry for each of ``size`` ids. Empty for special tokens, which have no text of their own, and for ids
    that no token has.

    Blocks for 0.1 to 0.5 s. Raises ``UnsupportedOption`` for a kind of tokenizer that is not known here.
    """
    spell = _speller(backend)
    added = backend.get_added_tokens_decoder()
    found = [b""] * size
    for text, index in backend.get_vocab(with_added_tokens=True).items():
        if index >= size:
            continue
        token = added.get(index)
        if token is None:
            found[index] = spell(text)
        elif not token.special:
            found[index] = token.content.encode()
    return found


def _speller(backend: Tokenizer) -> Any:
    kinds = _kinds(msgspec.json.decode(backend.decoder.__getstate__())) if backend.decoder else set()
    if "ByteLevel" in kinds:
        return _byte_level
    if "ByteFallback" in kinds:
        return _sentencepiece
    raise UnsupportedOption(
        "The bytes of this model's tokens are not known: its tokenizer is of another kind than byte-level or"
        " SentencePiece BPE.",
        hint="Leave out what guides the answer.",
    )


def _kinds(decoder: dict[str, Any]) -> set[str]:
    """The decoder's steps by name."""
    if decoder["type"] == "Sequence":
        return {kind for step in decoder["decoders"] for kind in _kinds(step)}
    return {decoder["type"]}


def _printable() -> dict[str, int]:
    """GPT-2's alphabet: each byte as a printable character, the others moved behind 255."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(256) if byte not in set(plain)]
    alphabet = {chr(byte): byte for byte in plain}
    return alphabet | {chr(256 + index): byte for index, byte in enumerate(moved)}


_ALPHABET = _printable()


def _byte_level(text: str) -> bytes:
    try:
        return bytes([_ALPHABET[character] for character in text])
    except KeyError:
        return text.encode()


def _sentencepiece(text: str) -> bytes:
    if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
        return bytes([int(text[3:5], 16)])
    return text.replace(_SPACE, " ").encode()
