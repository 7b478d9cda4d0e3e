"""Guided answers on vLLM, by llguidance.

vLLM's own structured output wants the tokenizer of transformers, which is not loaded here. So the place of its
backend is taken by one that knows the bytes of the front's tokens. Grammars are compiled in a thread; vLLM holds
their requests back until then. llguidance compiles lazily and within limits, so no guide takes long, and one that
goes beyond them ends its own request.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import llguidance
import llguidance.torch
from vllm.sampling_params import StructuredOutputsParams
from vllm.v1.structured_output.backend_types import StructuredOutputGrammar

from openllm.chat.token_bytes import token_bytes
from openllm.chat.tokenizer import load_tokenizer
from openllm.engines.base import EngineConfig, Generation, Guide
from openllm.engines.guides import check_guide, wrong
from openllm.errors import OpenLLMError, RequestError, UnsupportedParameter

# A rejected sequence is reported to its client; vLLM would also log an error for each.
logging.getLogger("vllm.v1.core.sched.scheduler").setLevel(logging.CRITICAL)

# A small model may go on with white space for ever.
_JSON = {"whitespace_pattern": r"[ \n\r\t]{0,32}"}
_LINES = 2  # of llguidance's reasons


class VLLMGuides:
    """Takes the place of the structured output backend of an in-process ``EngineCore``."""

    def __init__(self, core: Any, config: EngineConfig, vocabulary: int) -> None:
        self._config = config
        self._vocabulary = vocabulary
        self._errors: dict[str, OpenLLMError] = {}
        self._guides: dict[str, Guide] = {}
        self._tokenizer: Any = None
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, "guides")
        manager = core.structured_output_manager
        manager.backend = self
        manager.grammar_init = self._begin

    def params(self, request: Generation, guide: Guide) -> Any:
        """What tells vLLM that the request has a guide. Raises ``RequestError`` if the guide cannot be used."""
        if not self._config.tokenizer:
            raise UnsupportedParameter(
                f"{guide.source} cannot be honoured: the model has no tokenizer.json.",
                hint="Add the model's tokenizer.json.",
                param=guide.source,
            )
        check_guide(request, guide)
        self._guides[str(request.id)] = guide
        return StructuredOutputsParams(regex="")  # vLLM only looks whether there is one: the guide is ours

    def forget(self, name: str) -> OpenLLMError | None:
        """The request has ended; why, if it was its guide."""
        self._guides.pop(name, None)
        return self._errors.pop(name, None)

    def allocate_token_bitmask(self, rows: int) -> Any:
        """As vLLM's backends do."""
        return llguidance.torch.allocate_token_bitmask(rows, self._vocabulary)

    def destroy(self) -> None:
        """As vLLM's backends do."""
        self._pool.shutdown(cancel_futures=True)

    def _begin(self, request: Any) -> None:
        """In place of ``StructuredOutputManager.grammar_init``."""
        if request.structured_output_request is None:
            return
        name, stop_ids = request.request_id, request.sampling_params.stop_token_ids
        future = self._pool.submit(self._compile, name, self._guides[name], stop_ids)
        request.structured_output_request.grammar = future

    def _compile(self, name: str, guide: Guide, stop_ids: Sequence[int]) -> Grammar:
        try:
            if self._tokenizer is None:
                self._tokenizer = _tokenizer(self._config, self._vocabulary)
            matcher = llguidance.LLMatcher(self._tokenizer, _serialized(guide), log_level=0)
            if matcher.is_error():
                raise wrong(guide, _reason(matcher.get_error()))
        except OpenLLMError as error:
            self._errors[name] = error
            raise
        return Grammar(matcher, stop_ids)


class Grammar(StructuredOutputGrammar):  # type: ignore[misc]
    """One answer's place in its guide, as vLLM wants it."""

    def __init__(self, matcher: Any, stop_ids: Sequence[int]) -> None:
        self._matcher = matcher
        self._stop_ids = stop_ids
        self._ended = False

    def accept_tokens(self, request_id: str, tokens: list[int]) -> bool:
        """False ends the request: a token that does not fit, or a guide beyond llguidance's limits."""
        if self._matcher.is_error():
            return False
        if tokens[-1] in self._stop_ids:
            self._ended = True
            tokens = tokens[:-1]
        return not tokens or bool(self._matcher.consume_tokens(tokens))

    def validate_tokens(self, tokens: list[int]) -> list[int]:
        return tokens[: self._matcher.validate_tokens(tokens)]

    def rollback(self, num_tokens: int) -> None:
        self._matcher.rollback(num_tokens)
        self._ended = False

    def fill_bitmask(self, bitmask: Any, index: int) -> None:
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

    def is_terminated(self) -> bool:
        return self._ended

    def reset(self) -> None:
        self._matcher.reset()
        self._ended = False


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
