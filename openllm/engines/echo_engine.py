"""An engine without weights: it says the prompt's ids again, one per sequence and step, round and round.

It measures and tests all that is not an engine. As a language model it puts all probability on one token, so
temperature, filters, penalties, biases and seeds are honoured by leaving that token alone. It refuses guides, which
would need other tokens, and logprobs of the prompt, for which it has no probabilities.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice

import msgspec

from openllm.engines.base import Delta, EngineConfig, FinishReason, Generation, Sampling
from openllm.engines.limits import check_lengths, refuse_adapter, refuse_images
from openllm.errors import UnsupportedOption, UnsupportedParameter


class EchoOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Seconds that a step (``delay``) and the start (``load``) pretend to take, and bytes that are held in place of
    weights (``memory``)."""

    delay: float = 0.0
    load: float = 0.0
    memory: int = 0


def read_options(options: dict[str, str]) -> EchoOptions:
    """Read ``{"delay": "0.01"}``. Raises ``UnsupportedOption``."""
    try:
        return msgspec.convert(options, EchoOptions, strict=False)
    except msgspec.ValidationError as error:
        raise UnsupportedOption(
            f"Echo engine: {error}.",
            hint="Its options are delay=SECONDS, load=SECONDS and memory=BYTES.",
            param="options",
        ) from error


class EchoSequence:
    """One sequence that is being echoed."""

    __slots__ = ("_at", "_made", "_request")

    def __init__(self, request: Generation) -> None:
        self._request = request
        self._at = 0
        self._made = 0

    def advance(self) -> Delta:
        """The next token, or the end."""
        sampling = self._request.sampling
        token = self._next(banned=sampling.stop_ids if self._made < sampling.min_tokens else ())
        self._made += 1
        if token in sampling.stop_ids:
            return Delta(self._request.id, [], "stop")
        finish: FinishReason | None = "length" if self._made >= sampling.max_tokens else None
        if sampling.logprobs is None:
            return Delta(self._request.id, [token], finish)
        certain = [(token, 0.0)] * (2 if sampling.logprobs else 1)
        return Delta(self._request.id, [token], finish, logprobs=[certain])

    def _next(self, banned: tuple[int, ...]) -> int:
        prompt = self._request.prompt
        for _ in prompt:
            token = prompt[self._at]
            self._at = (self._at + 1) % len(prompt)
            if token not in banned:
                return token
        return next(token for token in range(len(banned) + 1) if token not in banned)


def _refuse(sampling: Sampling) -> None:
    refused = "prompt_logprobs" if sampling.prompt_logprobs is not None else ""
    if sampling.guide is not None:
        refused = sampling.guide.source
    if refused:
        raise UnsupportedParameter(
            f"The echo engine cannot honour {refused}.", hint="Use another --backend.", param=refused
        )


class EchoEngine:
    """See ``engines.base.Engine``."""

    def __init__(self, config: EngineConfig, report: Callable[[str], None]) -> None:
        options = read_options(config.options)
        self._context = config.context
        self._width = config.max_sequences
        self._delay = options.delay
        self._sequences: dict[int, EchoSequence] = {}
        self._ballast = b"\1" * options.memory
        report("loading the echo engine")
        time.sleep(options.load)

    def add(self, request: Generation) -> None:
        refuse_adapter(request)
        refuse_images(request)
        check_lengths(request, self._context)
        _refuse(request.sampling)
        self._sequences[request.id] = EchoSequence(request)

    def abort(self, request_id: int) -> None:
        self._sequences.pop(request_id, None)

    def step(self) -> list[Delta]:
        if self._delay:
            time.sleep(self._delay)
        deltas = [sequence.advance() for sequence in islice(self._sequences.values(), self._width)]
        for delta in deltas:
            if delta.finish is not None:
                del self._sequences[delta.id]
        return deltas

    def busy(self) -> bool:
        return bool(self._sequences)

    def weight_forms(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        self._sequences.clear()
