"""Guides compiled by llguidance, for engines whose sampling takes a mask of the tokens that may follow.

It knows the bytes of the front's tokens (``chat.token_bytes``), so it needs no tokenizer of transformers. llguidance
compiles lazily and within limits, so no guide takes long, and one that goes beyond them ends its own request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import llguidance
import llguidance.torch

from openllm.chat.token_bytes import token_bytes
from openllm.chat.tokenizer import load_tokenizer
from openllm.engines.base import EngineConfig, Generation, Guide
from openllm.engines.guides import check_guide, wrong
from openllm.errors import RequestError, UnsupportedParameter

# A small model may go on with white space for ever.
_JSON = {"whitespace_pattern": r"[ \n\r\t]{0,32}"}
_LINES = 2  # of llguidance's reasons
P = ParamSpec("P")
T = TypeVar("T")


class GuideCompiler:
    """Compiles the guides of one model in a thread of its own, one after the other."""

    def __init__(self, config: EngineConfig, vocabulary: int) -> None:
        self._config = config
        self._vocabulary = vocabulary
        self._tokenizer: Any = None
        self._pool = ThreadPoolExecutor(1, "guides")

    def check(self, request: Generation, guide: Guide) -> None:
        """Raise ``RequestError`` if the guide cannot be used. Quick."""
        if not self._config.tokenizer:
            raise UnsupportedParameter(
                f"{guide.source} cannot be honoured: the model has no tokenizer.json.",
                hint="Add the model's tokenizer.json.",
                param=guide.source,
            )
        check_guide(request, guide)

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call it in the thread, where ``compile`` disturbs nobody."""
        return self._pool.submit(function, *args, **kwargs)

    def compile(self, guide: Guide, stop_ids: Sequence[int]) -> GuidePlace:
        """The beginning of an answer in this guide. Blocks, the first time for about a second; raises
        ``RequestError`` for a guide that cannot be compiled."""
        if self._tokenizer is None:
            self._tokenizer = _tokenizer(self._config, self._vocabulary)
        matcher = llguidance.LLMatcher(self._tokenizer, _serialized(guide), log_level=0)
        if matcher.is_error():
            raise wrong(guide, _reason(matcher.get_error()))
        return GuidePlace(matcher, stop_ids)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


class GuidePlace:
    """Where one answer is in its guide."""

    def __init__(self, matcher: Any, stop_ids: Sequence[int]) -> None:
        self._matcher = matcher
        self._stop_ids = stop_ids
        self._ended = False

    def accept(self, tokens: list[int]) -> bool:
        """Go on by ``tokens``; False for one that does not fit, or a guide beyond llguidance's limits."""
        if self._matcher.is_error():
            return False
        if tokens[-1] in self._stop_ids:
            self._ended = True
            tokens = tokens[:-1]
        return not tokens or bool(self._matcher.consume_tokens(tokens))

    def valid(self, tokens: list[int]) -> list[int]:
        """Those of ``tokens``, from the first on, that fit."""
        return tokens[: self._matcher.validate_tokens(tokens)]

    def rollback(self, count: int) -> None:
        self._matcher.rollback(count)
        self._ended = False

    def fill(self, bitmask: Any, index: int) -> None:
        """The tokens that may follow; stop ids where the answer may be complete, and only there."""
        llguidance.torch.fill_next_token_bitmask(self._matcher, bitmask, index)
        complete = self._matcher.is_accepting() or self._matcher.is_error()
        row = bitmask[index].numpy().view("uint32")
        for token in self._stop_ids:
            bit = 1 << (token % 32)
            if complete:
                row[token // 32] |= bit
            else:
                row[token // 32] &= ~bit & 0xFFFFFFFF

    def ended(self) -> bool:
        return self._ended

    def reset(self) -> None:
        self._matcher.reset()
        self._ended = False


def new_bitmask(rows: int, vocabulary: int) -> Any:
    """A tensor for ``GuidePlace.fill``: a bit a token, 32 in a number."""
    return llguidance.torch.allocate_token_bitmask(rows, vocabulary)


class _Tokens:
    """A vocabulary as ``llguidance.TokenizerWrapper`` wants it."""

    def __init__(self, tokens: list[bytes], end: int, backend: Any) -> None:
        self.tokens = tokens
        self.eos_token_id = end
        self.bos_token_id = None
        self.special_token_ids = [index for index, token in enumerate(tokens) if not token]
        self._backend = backend

    def __call__(self, text: str | bytes) -> list[int]:
        if isinstance(text, bytes):
            text = text.decode()
        ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        return ids


def _tokenizer(config: EngineConfig, vocabulary: int) -> Any:
    """llguidance's form of the model's tokenizer. Blocks for about a second. Raises ``OpenLLMError``."""
    loaded = load_tokenizer(Path(config.tokenizer), Path(config.cache))
    tokens = token_bytes(loaded.backend, vocabulary)
    if not loaded.stop_ids:
        raise RequestError("The model has no end token, so an answer cannot be guided.")
    wrapper = llguidance.TokenizerWrapper(_Tokens(tokens, loaded.stop_ids[0], loaded.backend))
    return llguidance.LLTokenizer(wrapper, n_vocab=vocabulary)


def _serialized(guide: Guide) -> str:
    """The guide in llguidance's form; what is wrong with it shows when it is compiled. Raises ``RequestError``."""
    text: str
    try:
        match guide.kind:
            case "json_object":
                text = llguidance.LLMatcher.grammar_from_json_schema('{"type": "object"}', _JSON)
            case "json_schema":
                text = llguidance.LLMatcher.grammar_from_json_schema(guide.text, _JSON)
            case kind:
                text = llguidance.grammar_from(kind, guide.text)
    except ValueError as error:
        raise wrong(guide, _reason(str(error))) from error
    return text


def _reason(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[:_LINES])[:300].rstrip(".")
