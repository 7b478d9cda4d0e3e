"""Guided answers on vLLM, by llguidance.

vLLM's own structured output wants the tokenizer of transformers, which is not loaded here. So the place of its
backend is taken by one that knows the bytes of the front's tokens. Grammars are compiled in a thread; vLLM holds
their requests back until then.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from vllm.sampling_params import StructuredOutputsParams
from vllm.v1.structured_output.backend_types import StructuredOutputGrammar

from openllm.engines.base import EngineConfig, Generation, Guide
from openllm.engines.llguidance_guides import GuideCompiler, GuidePlace, new_bitmask
from openllm.errors import OpenLLMError

# A rejected sequence is reported to its client; vLLM would also log an error for each.
logging.getLogger("vllm.v1.core.sched.scheduler").setLevel(logging.CRITICAL)


class VLLMGuides:
    """Takes the place of the structured output backend of an in-process ``EngineCore``."""

    def __init__(self, core: Any, config: EngineConfig, vocabulary: int) -> None:
        self._vocabulary = vocabulary
        self._errors: dict[str, OpenLLMError] = {}
        self._guides: dict[str, Guide] = {}
        self._compiler = GuideCompiler(config, vocabulary)
        manager = core.structured_output_manager
        manager.backend = self
        manager.grammar_init = self._begin

    def params(self, request: Generation, guide: Guide) -> Any:
        """What tells vLLM that the request has a guide. Raises ``RequestError`` if the guide cannot be used."""
        self._compiler.check(request, guide)
        self._guides[str(request.id)] = guide
        return StructuredOutputsParams(regex="")  # vLLM only looks whether there is one: the guide is ours

    def forget(self, name: str) -> OpenLLMError | None:
        """The request has ended; why, if it was its guide."""
        self._guides.pop(name, None)
        return self._errors.pop(name, None)

    def allocate_token_bitmask(self, rows: int) -> Any:
        """As vLLM's backends do."""
        return new_bitmask(rows, self._vocabulary)

    def destroy(self) -> None:
        """As vLLM's backends do."""
        self._compiler.close()

    def _begin(self, request: Any) -> None:
        """In place of ``StructuredOutputManager.grammar_init``."""
        if request.structured_output_request is None:
            return
        name, stop_ids = request.request_id, request.sampling_params.stop_token_ids
        future = self._compiler.run(self._compile, name, self._guides[name], stop_ids)
        request.structured_output_request.grammar = future

    def _compile(self, name: str, guide: Guide, stop_ids: Sequence[int]) -> Grammar:
        try:
            return Grammar(self._compiler.compile(guide, stop_ids))
        except OpenLLMError as error:
            self._errors[name] = error
            raise


class Grammar(StructuredOutputGrammar):  # type: ignore[misc]
    """One answer's place in its guide, as vLLM wants it."""

    def __init__(self, place: GuidePlace) -> None:
        self._place = place

    def accept_tokens(self, request_id: str, tokens: list[int]) -> bool:
        return self._place.accept(tokens)

    def validate_tokens(self, tokens: list[int]) -> list[int]:
        return self._place.valid(tokens)

    def rollback(self, num_tokens: int) -> None:
        self._place.rollback(num_tokens)

    def fill_bitmask(self, bitmask: Any, index: int) -> None:
        self._place.fill(bitmask, index)

    def is_terminated(self) -> bool:
        return self._place.ended()

    def reset(self) -> None:
        self._place.reset()
