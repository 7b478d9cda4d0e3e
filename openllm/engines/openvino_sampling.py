"""What GenAI's sampler can honour."""

from __future__ import annotations

from openllm.engines.base import Sampling
from openllm.errors import RequestError, UnsupportedParameter

_PENALTY = 2.0


def check_sampling(sampling: Sampling) -> None:
    """Raise ``RequestError`` for values out of range, ``UnsupportedParameter`` for what GenAI cannot do."""
    for name, asked in (
        ("logit_bias", bool(sampling.logit_bias)),
        ("logprobs", sampling.logprobs is not None),
        ("prompt_logprobs", sampling.prompt_logprobs is not None),
    ):
        if asked:
            raise UnsupportedParameter(
                f"The openvino engine cannot honour {name}.", hint="Use --backend vllm.", param=name
            )
    for name, value, good in (
        ("presence_penalty", sampling.presence_penalty, abs(sampling.presence_penalty) <= _PENALTY),
        ("frequency_penalty", sampling.frequency_penalty, abs(sampling.frequency_penalty) <= _PENALTY),
        ("repetition_penalty", sampling.repetition_penalty, sampling.repetition_penalty > 0),
        ("temperature", sampling.temperature, sampling.temperature >= 0),
        ("top_p", sampling.top_p, 0 < sampling.top_p <= 1),
        ("top_k", sampling.top_k, sampling.top_k >= 0),
        ("min_p", sampling.min_p, 0 <= sampling.min_p < 1),
        ("min_tokens", sampling.min_tokens, 0 <= sampling.min_tokens <= sampling.max_tokens),
    ):
        if not good:
            raise RequestError(f"{name} {value} is out of range.", hint="See the API reference.", param=name)
