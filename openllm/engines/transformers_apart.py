"""One sequence after the other, each with a cache of its own, as transformers' ``generate`` runs a model.

It goes with every model that ``generate`` runs, whatever its state is made of; a step costs as much as its sequences
do alone.
"""

from __future__ import annotations

from inspect import signature
from typing import Any

import torch

from openllm.engines.transformers_forward import Piece

_PROBE = 8
# What a token of a model takes that does not tell: more would be held than there is room for.
_LEAST_BYTES = 1


class ApartForward:
    """See ``Forward``. A prompt is computed whole: not every model can go on within one."""

    chunk = 0

    def __init__(self, model: Any, cache_bytes: int) -> None:
        self._model = model
        self._chooses = "logits_to_keep" in signature(model.forward).parameters
        self._states: dict[int, dict[str, Any]] = {}
        self._seen: dict[int, list[int]] = {}
        self._lengths: dict[int, int] = {}
        self.total = 1
        self.run([Piece(0, [1] * _PROBE, 0, [0])])
        token = max(_bytes(self._states[0]) // _PROBE, _LEAST_BYTES)
        self.free(0)
        self.total = max(cache_bytes // token, 1)

    def grow(self, key: int, length: int) -> bool:
        others = sum(each for name, each in self._lengths.items() if name != key)
        if others + length > self.total:
            return False
        self._lengths[key] = max(length, self._lengths.get(key, 0))
        return True

    def free(self, key: int) -> None:
        for held in (self._states, self._seen, self._lengths):
            held.pop(key, None)

    def run(self, pieces: list[Piece]) -> Any:
        with torch.inference_mode():
            return torch.cat([self._one(piece) for piece in pieces])

    def _one(self, piece: Piece) -> Any:
        device = self._model.device
        if piece.start == 0:
            self._seen[piece.key] = []
            self._states[piece.key] = {"use_cache": True}
        ids = self._seen[piece.key]
        ids += piece.ids
        state = self._states[piece.key]
        state["attention_mask"] = torch.ones(1, len(ids), dtype=torch.long, device=device)
        given = self._model.prepare_inputs_for_generation(
            torch.tensor([ids], device=device), next_sequence_length=len(piece.ids), **state
        )
        wanted = torch.tensor(piece.wanted, dtype=torch.long, device=device)
        if not self._chooses:
            out = self._model(**given)
            logits = out.logits[0, wanted]
        else:
            out = self._model(**given, logits_to_keep=wanted)
            logits = out.logits[0]
        self._states[piece.key] = self._model._update_model_kwargs_for_generation(out, state)
        return logits.float()


def _bytes(state: Any, depth: int = 6) -> int:
    """Of all tensors in a state, whatever it is made of."""
    if isinstance(state, torch.Tensor):
        return int(state.nbytes)
    if isinstance(state, dict):
        return sum(_bytes(each, depth) for each in state.values())
    if isinstance(state, (list, tuple)):
        return sum(_bytes(each, depth) for each in state)
    return _bytes(vars(state), depth - 1) if depth and hasattr(state, "__dict__") else 0
