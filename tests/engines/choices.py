"""Choosing tokens, in a process that may import torch."""

from __future__ import annotations

from collections import Counter
from typing import Any


class Choices:
    """Draws from made-up logits, and says what could have been drawn."""

    def __init__(self) -> None:
        import torch

        self._torch = torch
        self._logits: Any = torch.randn(4000, generator=torch.Generator().manual_seed(3)) * 3

    def allowed(self, temperature: float, top_k: int, top_p: float, min_p: float) -> set[int]:
        """By the definitions of the filters, one after the other, over all tokens in order."""
        order = (self._logits / temperature).sort(descending=True).indices
        probabilities = (self._logits / temperature).softmax(-1)[order]
        keep = probabilities >= min_p * probabilities[0]
        if top_k:
            keep[top_k:] = False
        probabilities = probabilities * keep / (probabilities * keep).sum()
        keep &= probabilities.cumsum(-1) - probabilities < top_p
        return set(order[keep].tolist())

    def drawn(self, count: int, **sampling: Any) -> Counter[int]:
        from openllm.engines.base import Sampling
        from openllm.engines.token_choice import Chooser, choose

        chooser = Chooser(Sampling(count, seed=1, **sampling), [1], len(self._logits), "cpu")
        rows = (choose(self._logits[None].clone(), [chooser])[0] for _ in range(count))
        return Counter(rows)

    def probabilities(self) -> list[float]:
        values: list[float] = self._logits.softmax(-1).tolist()
        return values
