"""The requests that wait for their guide to be compiled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openvino_genai as genai

from openllm.engines.base import Delta, EngineConfig, Generation, Guide
from openllm.engines.guides import check_guide
from openllm.engines.openvino_guides import GuideCompiler
from openllm.engines.openvino_schema import check_keywords
from openllm.engines.openvino_vocabulary import vocabulary_folder
from openllm.engines.refusal import refusal
from openllm.errors import OpenLLMError, Overloaded, UnsupportedParameter

_WAIT_SECONDS = 0.05
_MOST_REFUSED = 1024
# GenAI keeps every guide that it has compiled, for good: 0.1 to 3 MB each with 49,152 tokens.
MANY_COMPILED = 250
_MOST_COMPILED = 4 * MANY_COMPILED

Key = tuple[str, str]


def open_guided(config: EngineConfig, folder: Path, vocabulary: int) -> Guided:
    """Give GenAI the vocabulary of ``config.tokenizer`` for the model in ``folder``; without one, or with an
    unknown kind of one, guides are refused. Blocks for 0.2 to 1 s the first time for a model, else for 0.05 s."""
    if not config.tokenizer:
        return Guided(genai.Tokenizer(folder), None, "the model has no tokenizer.json")
    try:
        vocabulary_files = vocabulary_folder(Path(config.tokenizer), vocabulary, Path(config.cache))
    except (OpenLLMError, OSError) as error:
        return Guided(genai.Tokenizer(folder), None, str(error))
    tokenizer = genai.Tokenizer(vocabulary_files)
    return Guided(tokenizer, GuideCompiler(vocabulary_files, tokenizer), "")


class Guided:
    """``tokenizer`` is the one that the pipeline must use; ``why_not`` says why guides are refused, if they are."""

    def __init__(self, tokenizer: Any, compiler: GuideCompiler | None, why_not: str) -> None:
        self.tokenizer = tokenizer
        self._compiler = compiler
        self._why_not = why_not
        self._compiled: set[Key] = set()
        self._refused: dict[Key, OpenLLMError] = {}
        self._waiting: dict[Key, list[Generation]] = {}

    @property
    def waiting(self) -> bool:
        """Does a request wait?"""
        return bool(self._waiting)

    @property
    def full(self) -> bool:
        """Are so many guides compiled that all should be forgotten when nothing runs?"""
        return len(self._compiled) >= MANY_COMPILED

    def admit(self, request: Generation) -> bool:
        """Can the request begin? If not, it is kept until its guide is compiled. Raises ``RequestError``."""
        guide = request.sampling.guide
        if guide is None:
            return True
        if self._compiler is None:
            raise UnsupportedParameter(
                f"{guide.source} cannot be honoured: {self._why_not}",
                hint="Use --backend vllm.",
                param=guide.source,
            )
        check_guide(request, guide)
        check_keywords(guide)
        key = (guide.kind, guide.text)
        if key in self._compiled:
            return True
        if key in self._refused:
            raise _for(guide, self._refused[key])
        if key not in self._waiting:
            if len(self._compiled) + len(self._waiting) >= _MOST_COMPILED:
                raise Overloaded("Too many different guides are in use.", hint="Try again later.")
            self._waiting[key] = []
            self._compiler.submit(guide)
        self._waiting[key].append(request)
        return False

    def take(self, *, wait: bool) -> tuple[list[Generation], list[Delta]]:
        """Requests that can begin now, and the ends of those whose guide cannot be compiled. With ``wait`` blocks
        for a moment if there are none."""
        ready: list[Generation] = []
        refused: list[Delta] = []
        assert self._compiler is not None
        while (verdict := self._compiler.verdict(_WAIT_SECONDS if wait else 0)) is not None:
            wait = False
            guide, error = verdict
            key = (guide.kind, guide.text)
            if error is None:
                self._compiled.add(key)
            else:
                self._refuse(key, error)
            for request in self._waiting.pop(key, ()):
                asked = request.sampling.guide
                if error is None or asked is None:
                    ready.append(request)
                else:
                    refused.append(refusal(request.id, _for(asked, error)))
        return ready, refused

    def abort(self, request_id: int) -> None:
        """Forget a request that waits."""
        for key, requests in self._waiting.items():
            left = [request for request in requests if request.id != request_id]
            if len(left) < len(requests):
                self._waiting[key] = left
                return

    def close(self) -> None:
        self._waiting.clear()
        if self._compiler is not None:
            self._compiler.close()

    def _refuse(self, key: Key, error: OpenLLMError) -> None:
        self._refused[key] = error
        if len(self._refused) > _MOST_REFUSED:
            del self._refused[next(iter(self._refused))]


def _for(guide: Guide, error: OpenLLMError) -> OpenLLMError:
    """The same error for another request, whose field may have another name."""
    return type(error)(error.message, hint=error.hint, param=guide.source)
