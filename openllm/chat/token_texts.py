"""The text and the bytes of single tokens, and with them what is told of a place of an answer."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer

from openllm.chat.events import TextLogprobs, TokenLogprob
from openllm.chat.token_bytes import speller

LOWEST = -9999.0
"""Stands for the logarithm of 0, which JSON has no number for; OpenAI's API says the same."""


class TokenTexts:
    """Of one vocabulary; each token is spelled once. Raises ``UnsupportedOption`` for a kind of tokenizer whose
    bytes are not known.

    A special token has its name as its text and no bytes, as it adds nothing to an answer. Bytes that are no whole
    characters are told as ``bytes:\\xf0\\x9f``, so that unlike tokens have unlike texts.
    """

    def __init__(self, backend: Tokenizer) -> None:
        self._spell = speller(backend)
        self._name = backend.id_to_token
        self._added = backend.get_added_tokens_decoder()
        self._known: dict[int, tuple[str, bytes]] = {}

    def token(self, index: int, logprob: float | None) -> TokenLogprob:
        """One token. An id that only the model's padding has is told as ``token_id:5``."""
        known = self._known.get(index)
        if known is None:
            known = self._known[index] = self._read(index)
        text, spelled = known
        return TokenLogprob(text, spelled, None if logprob is None else max(logprob, LOWEST))

    def place(self, place: Sequence[tuple[int, float]], offset: int) -> TextLogprobs:
        """``place`` are ids and logprobs, the chosen token first, then the likeliest ones."""
        (index, logprob), *top = place
        return TextLogprobs(
            self.token(index, logprob), tuple(self.token(index, logprob) for index, logprob in top), offset
        )

    def _read(self, index: int) -> tuple[str, bytes]:
        added = self._added.get(index)
        if added is not None:
            return added.content, b"" if added.special else added.content.encode()
        name = self._name(index)
        if name is None:
            return f"token_id:{index}", b""
        spelled = self._spell(name)
        try:
            return spelled.decode(), spelled
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelled), spelled
