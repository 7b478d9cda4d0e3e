"""One sequence of the OpenVINO engine: GenAI's handle, and the request that it runs."""

from __future__ import annotations

from typing import Any

import msgspec
import openvino_genai as genai

from openllm.engines.base import Delta, FinishReason, Generation

_STOP = genai.GenerationFinishReason.STOP
_NONE = genai.GenerationFinishReason.NONE
_IGNORED = genai.GenerationStatus.IGNORED


class Sequence:
    """Reads a handle into deltas, and remembers what was read so that it can be taken up again."""

    __slots__ = ("_made", "_request", "handle")

    def __init__(self, handle: Any, request: Generation) -> None:
        self.handle = handle
        self._request = request
        self._made: list[int] = []

    def read(self) -> Delta | None:
        """What the last step added, if it added anything."""
        handle = self.handle
        if not handle.can_read():
            if handle.get_status() == _IGNORED:
                return self.failed("the KV cache is too small for this sequence")
            return None
        (output,) = handle.read().values()
        tokens: list[int] = output.generated_ids
        reason = output.finish_reason
        if reason == _NONE:
            self._made += tokens
            return Delta(self._request.id, tokens)
        finish: FinishReason = "stop" if reason == _STOP else "length"
        if tokens and tokens[-1] in self._request.sampling.stop_ids:
            tokens = tokens[:-1]
        return Delta(self._request.id, tokens, finish)

    def failed(self, why: str) -> Delta:
        return Delta(self._request.id, [], "error", error=why)

    def rest(self) -> Generation | None:
        """A request that goes on where this one is; None if what is lost with it, the state of its random
        numbers, the tokens that its penalties count, or its place in a guide, would change the answer."""
        request, made = self._request, self._made
        if not made:
            return request
        sampling = request.sampling
        penalties = sampling.presence_penalty or sampling.frequency_penalty
        if sampling.seed is not None or penalties or sampling.guide is not None:
            return None
        return msgspec.structs.replace(
            request,
            prompt=request.prompt + made,
            sampling=msgspec.structs.replace(
                sampling,
                max_tokens=sampling.max_tokens - len(made),
                min_tokens=max(sampling.min_tokens - len(made), 0),
            ),
        )
