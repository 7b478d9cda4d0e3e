"""The next token of each sequence from the model's logits, as ``Sampling`` says.

The order is vLLM's: guide, biases, penalties and what ``min_tokens`` forbids, then temperature, min_p, top_k, top_p.
A seeded sequence has random numbers of its own, one a token, so its answer does not depend on its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from openllm.engines.base import Logprobs, Sampling
from openllm.engines.llguidance_guides import GuidePlace, new_bitmask

_CANDIDATES = 512  # of a filter's rows that are sorted at first: mostly enough, and much cheaper than all
_COLDEST = 1e-5  # temperature


class Chooser:
    """How one sequence's tokens are chosen: its sampling, and what of its past that looks at."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int], vocabulary: int, device: Any) -> None:
        self.sampling = sampling
        self.place: GuidePlace | None = None
        seed = None if sampling.seed is None else sampling.seed % (1 << 64)
        self._random = np.random.default_rng(seed)
        self._made = 0
        self._counts: Any = None
        self._prompt: Any = None
        if sampling.presence_penalty or sampling.frequency_penalty or sampling.repetition_penalty != 1.0:
            self._counts = torch.zeros(vocabulary, device=device)
        if sampling.repetition_penalty != 1.0:
            self._prompt = torch.zeros(vocabulary, dtype=torch.bool, device=device)
            self._prompt[torch.tensor(prompt, device=device)] = True
        tokens, values = zip(*sampling.logit_bias, strict=True) if sampling.logit_bias else ((), ())
        self._biased = torch.tensor(tokens, dtype=torch.long, device=device)
        self._biases = torch.tensor(values, dtype=torch.float32, device=device)
        self._ends = torch.tensor(sampling.stop_ids, dtype=torch.long, device=device)

    @property
    def greedy(self) -> bool:
        return self.sampling.temperature == 0

    @property
    def filters(self) -> bool:
        """Does a filter leave out tokens?"""
        sampling = self.sampling
        return sampling.top_k > 0 or sampling.top_p < 1 or sampling.min_p > 0

    def random(self) -> float:
        """The next of its random numbers, in 0..1."""
        return float(self._random.random())

    def edit(self, row: Any) -> None:
        """Change the logits of its next token, in place, by all that comes before the temperature."""
        sampling = self.sampling
        if self.place is not None:
            row.masked_fill_(~_allowed(self.place, len(row)).to(row.device), float("-inf"))
        if self._biased.numel():
            row[self._biased] += self._biases
        if self._made < sampling.min_tokens:
            row[self._ends] = float("-inf")
        if self._counts is None:
            return
        if self._prompt is not None:
            seen = self._prompt | (self._counts > 0)
            by = sampling.repetition_penalty
            row.copy_(torch.where(seen, torch.where(row > 0, row / by, row * by), row))
        row -= sampling.frequency_penalty * self._counts
        row -= sampling.presence_penalty * (self._counts > 0)

    def took(self, token: int) -> bool:
        """Note what was chosen. False if its guide does not go on by that."""
        self._made += 1
        if self._counts is not None:
            self._counts[token] += 1
        return self.place is None or self.place.accept([token])


def choose(logits: Any, choosers: Sequence[Chooser]) -> list[int]:
    """The next token of each row; ``logits`` (rows, vocabulary) in float32 are changed."""
    for row, chooser in zip(logits, choosers, strict=True):
        chooser.edit(row)
    found: list[int] = logits.argmax(-1).tolist()
    drawn = [index for index, chooser in enumerate(choosers) if not chooser.greedy]
    plain = [index for index in drawn if not choosers[index].filters]
    if plain:
        heat = torch.tensor([[choosers[index].sampling.temperature] for index in plain], device=logits.device)
        numbers = [choosers[index].random() for index in plain]
        for index, token in zip(plain, _draw((logits[plain] / heat).softmax(-1), numbers), strict=True):
            found[index] = token
    for index in drawn:
        if choosers[index].filters:
            found[index] = _filtered(logits[index], choosers[index])
    return found


def check_range(sampling: Sampling) -> tuple[str, float] | None:
    """The first parameter that is out of its range, and its value."""
    ranges = {
        "temperature": 0 <= sampling.temperature < float("inf"),
        "top_p": 0 < sampling.top_p <= 1,
        "top_k": sampling.top_k >= 0,
        "min_p": 0 <= sampling.min_p <= 1,
        "presence_penalty": -2 <= sampling.presence_penalty <= 2,
        "frequency_penalty": -2 <= sampling.frequency_penalty <= 2,
        "repetition_penalty": 0 < sampling.repetition_penalty < float("inf"),
        "min_tokens": 0 <= sampling.min_tokens <= sampling.max_tokens,
    }
    return next(((name, getattr(sampling, name)) for name, good in ranges.items() if not good), None)


def logprob_rows(logits: Any, tokens: Sequence[int], top: int) -> list[Logprobs]:
    """Of each row: its token and the ``top`` likeliest ones, with the logarithms of their probabilities."""
    values = logits.log_softmax(-1)
    chosen = values.gather(1, torch.tensor(tokens, device=logits.device)[:, None])[:, 0].tolist()
    best, ids = values.topk(top, -1)
    return [
        [(token, value), *zip(others, likely, strict=True)]
        for token, value, others, likely in zip(tokens, chosen, ids.tolist(), best.tolist(), strict=True)
    ]


def _draw(probabilities: Any, numbers: Sequence[float]) -> list[int]:
    """In each row the token at which the sum of probabilities passes the row's number."""
    sums = probabilities.cumsum(-1, dtype=torch.float64)
    wanted = torch.tensor(numbers, dtype=torch.float64, device=sums.device)[:, None] * sums[:, -1:]
    places = torch.searchsorted(sums, wanted, right=True)[:, 0]
    found: list[int] = places.clamp(max=sums.shape[-1] - 1).tolist()
    return found


def _filtered(row: Any, chooser: Chooser) -> int:
    """One token of those that min_p, top_k and top_p leave."""
    sampling = chooser.sampling
    row = row / max(sampling.temperature, _COLDEST)
    if sampling.min_p > 0:
        row = row.masked_fill(row < row.max() + math.log(sampling.min_p), float("-inf"))
    values, ids = _likeliest(row, sampling)
    weights = torch.exp(values - row.max())
    if sampling.top_p < 1:
        whole = weights.sum() if sampling.top_k else torch.exp(row - row.max()).sum()
        before = weights.cumsum(-1) - weights
        weights = weights * (before < sampling.top_p * whole)
    (at,) = _draw(weights[None], [chooser.random()])
    return at if ids is None else int(ids[at])


def _likeliest(row: Any, sampling: Sampling) -> tuple[Any, Any]:
    """The logits that top_k and top_p may leave, largest first, and their ids; as they are if neither is asked for."""
    size = row.shape[-1]
    if sampling.top_k:
        return row.topk(min(sampling.top_k, size))  # type: ignore[no-any-return]
    if sampling.top_p == 1:
        return row, None
    values, ids = row.topk(min(_CANDIDATES, size))
    if float(torch.exp(values - row.logsumexp(-1)).sum()) < sampling.top_p:
        values, ids = row.sort(descending=True)
    return values, ids


def _allowed(place: GuidePlace, size: int) -> Any:
    bits = new_bitmask(1, size)
    place.fill(bits, 0)
    flags = np.unpackbits(bits[0].numpy().view(np.uint8), bitorder="little")[:size]
    return torch.from_numpy(flags.astype(bool))
