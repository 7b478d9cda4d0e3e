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
from openllm.errors import OpenLLMError, UnsupportedParameter

_WAIT_SECONDS = 0.05
_MOST_KNOWN = 1024

Key = tuple[str, str]


def open_guided(config: EngineConfig, folder: Path, vocabulary: int) -> Guided:
    """Give GenAI the vocabulary of ``config.tokenizer`` for the model in ``folder``; without one, or with an unknown kind of one, guides are
    refused. Blocks for 0.2 to 1 s the first time for a model, else for 0.05 s."""
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
        self._known: dict[Key, OpenLLMError | None] = {}
        self._waiting: dict[Key, list[Generation]] = {}

    @property
    def waiting(self) -> bool:
        """Does a request wait?"""
        return bool(self._waiting)

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
        if key in self._known:
            error = self._known[key]
            if error is not None:
                raise _for(guide, error)
            return True
        if key not in self._waiting:
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
            self._remember(key, error)
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

    def _remember(self, key: Key, error: OpenLLMError | None) -> None:
        self._known[key] = error
        if len(self._known) > _MOST_KNOWN:
            del self._known[next(iter(self._known))]


def _for(guide: Guide, error: OpenLLMError) -> OpenLLMError:
    """The same error for another request, whose field may have another name."""
    return type(error)(error.message, hint=error.hint, param=guide.source)
