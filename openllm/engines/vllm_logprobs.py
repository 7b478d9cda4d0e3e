"""vLLM's logprobs as ours."""

from __future__ import annotations

from typing import Any

from openllm.engines.base import Logprobs


def rows(lists: Any, top: int) -> list[Logprobs]:
    """One entry for each place of a ``LogprobsLists``: the token at it, then the ``top`` likeliest ones.

    vLLM's arrays are as wide as the request of the batch that asked for most.
    """
    ids = lists.logprob_token_ids[:, : top + 1].tolist()
    values = lists.logprobs[:, : top + 1].tolist()
    return [list(zip(*row, strict=True)) for row in zip(ids, values, strict=True)]
