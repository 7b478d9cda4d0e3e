"""Sequences of all lengths in one step, without padding.

The tokens of all sequences are one row: what a model does token by token needs no more. Attention is ours: it is
put in by transformers' own interface for that, writes keys and values into one cache of a fixed size, and looks at
the range of one sequence at a time. Whether a model gives the right answers this way is tried when it is loaded
(``is_right``), not looked up in a list of architectures.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from openllm.engines.kv_ranges import Move, Ranges
from openllm.engines.transformers_forward import Piece

_NAME = "openllm_ragged"
_CHUNK = 512
# What may be handed to attention without changing what it computes; tensors of other names may.
_HARMLESS = frozenset({"position_ids", "cache_position", "position_embeddings", "s_aux"})
# Difference of logits, as a part of the largest one, that rounding explains.
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2}
_ROUGH = 1e-1  # bfloat16, and LLM.int8(), which looks for outliers in all tokens of a step together
_PROBE = (tuple(range(3, 12)), (7, 5, 3, 2, 9, 11))


class _Span(NamedTuple):
    """Of one sequence in a step: its ``tokens`` from ``row`` on; its cache has ``length`` from ``start`` on."""

    row: int
    tokens: int
    start: int
    length: int


class RaggedForward:
    """See ``Forward``. The model computes with this attention from now on."""

    chunk = _CHUNK

    def __init__(self, model: Any, cache_bytes: int) -> None:
        """Raises ``ValueError`` for a model whose attention cannot be replaced."""
        self._model = model
        self._caches: dict[int, tuple[Any, Any]] = {}
        self._spans: list[_Span] = []
        self._slots: Any = None
        self._strange: set[str] = set()
        self._sliding: set[int] = set()
        self._ranges = Ranges(_CHUNK)
        AttentionInterface.register(_NAME, self._attend)
        model.set_attn_implementation(_NAME)
        if model.config._attn_implementation != _NAME:
            raise ValueError("this model's attention is its own")
        self.run([Piece(0, [1], 0, [0])])  # shows the shapes of keys and values
        if not self._caches:
            raise ValueError("this model has no attention")
        token = sum(cache[:, 0].nbytes for both in self._caches.values() for cache in both)
        self._caches.clear()
        self._ranges = Ranges(max(cache_bytes // token, 1))
        self.total = self._ranges.total

    def grow(self, key: int, length: int) -> bool:
        moves = self._ranges.grow(key, length)
        if moves is None:
            return False
        for cache in (cache for both in self._caches.values() for cache in both) if moves else ():
            _move(cache, moves)
        return True

    def free(self, key: int) -> None:
        self._ranges.free(key)

    def run(self, pieces: list[Piece]) -> Any:
        with torch.inference_mode():
            return self._run(pieces)

    def _run(self, pieces: list[Piece]) -> Any:
        ids: list[int] = []
        places: list[int] = []
        slots: list[int] = []
        wanted: list[int] = []
        self._spans = []
        for piece in pieces:
            self.grow(piece.key, piece.start + len(piece.ids))  # done already, but for the first of all
            start, length = self._ranges[piece.key].start, piece.start + len(piece.ids)
            self._spans.append(_Span(len(ids), len(piece.ids), start, length))
            wanted += [len(ids) + at for at in piece.wanted]
            ids += piece.ids
            places += range(piece.start, length)
            slots += range(start + piece.start, start + length)
        device = self._model.device
        self._slots = torch.tensor(slots, device=device)
        return self._model(
            input_ids=torch.tensor([ids], device=device),
            position_ids=torch.tensor([places], device=device),
            use_cache=False,
            logits_to_keep=torch.tensor(wanted, dtype=torch.long, device=device),
        ).logits[0].float()  # fmt: skip

    def _attend(
        self,
        module: Any,
        query: Any,
        key: Any,
        value: Any,
        attention_mask: Any,
        scaling: float | None = None,
        sliding_window: int | None = None,
        softcap: float | None = None,
        s_aux: Any = None,
        is_causal: bool | None = None,
        **others: Any,
    ) -> tuple[Any, None]:
        """What transformers calls: queries (1, heads, tokens, size), keys and values of the new tokens alike."""
        layer: int = module.layer_idx
        self._look(module, attention_mask, is_causal, others)
        if sliding_window is not None:
            self._sliding.add(layer)
        keys, values = self._cache(layer, key, value)
        keys.index_copy_(1, self._slots, key[0])
        values.index_copy_(1, self._slots, value[0])
        heads, tokens, size = query.shape[1:]
        groups = heads // keys.shape[0]
        rows = query[0].transpose(0, 1)  # a view: (tokens, heads, size)
        out = query.new_empty(tokens, heads, values.shape[-1])
        for row, count, start, length in self._spans:
            first = 0 if sliding_window is None else max(0, length - count + 1 - sliding_window)
            seen = keys[None, :, start + first : start + length]
            meant = values[None, :, start + first : start + length]
            asked = rows[row : row + count]
            if softcap is not None or s_aux is not None:
                mask = _mask(count, length - first, sliding_window, query.device)
                found = _plain(asked.transpose(0, 1), seen[0], meant[0], scaling, softcap, s_aux, mask)
                out[row : row + count] = found.transpose(0, 1)
            elif count == 1:  # the heads that share keys take the place of tokens
                asked = asked.reshape(1, -1, groups, size)
                found = scaled_dot_product_attention(asked, seen, meant, scale=scaling)
                out[row] = found.reshape(heads, -1)
            else:
                whole = count == length - first and (sliding_window is None or count <= sliding_window)
                found = scaled_dot_product_attention(
                    asked.transpose(0, 1)[None],
                    seen,
                    meant,
                    attn_mask=None if whole else _mask(count, length - first, sliding_window, query.device),
                    is_causal=whole,
                    scale=scaling,
                    enable_gqa=groups > 1,
                )
                out[row : row + count] = found[0].transpose(0, 1)
        return out[None], None

    def _cache(self, layer: int, key: Any, value: Any) -> tuple[Any, Any]:
        if layer not in self._caches:
            total = self._ranges.total
            self._caches[layer] = (
                key.new_empty(key.shape[1], total, key.shape[3]),
                value.new_empty(value.shape[1], total, value.shape[3]),
            )
        return self._caches[layer]

    def _look(self, module: Any, mask: Any, is_causal: bool | None, others: dict[str, Any]) -> None:
        """Note what this attention would not honour."""
        if mask is not None:
            self._strange.add("attention_mask")
        if is_causal is False or getattr(module, "is_causal", True) is False:
            self._strange.add("is_causal")
        for name, value in others.items():
            if isinstance(value, torch.Tensor) and name not in _HARMLESS:
                self._strange.add(name)


def is_right(forward: RaggedForward, model: Any, expected: list[Any]) -> bool:
    """Do two sequences, cut into pieces, come to the logits that the model's own attention gave for them?

    ``expected`` is ``own_logits`` of the model, from before its attention was replaced.
    """
    try:
        long, short = (list(ids) for ids in _PROBE)
        forward.run([Piece(1, long[:4], 0, [3]), Piece(2, short[:-1], 0, [0])])
        found = forward.run(
            [Piece(2, short[-1:], len(short) - 1, [0]), Piece(1, long[4:], 4, [len(long) - 5])]
        )
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError):
        return False
    finally:
        forward.free(0)
        forward.free(1)
        forward.free(2)
    quantized = getattr(model, "hf_quantizer", None) is not None
    tolerance = _ROUGH if quantized else _TOLERANCE.get(model.dtype, _ROUGH)
    return (
        not forward._strange
        and forward._sliding == _sliding_layers(model)
        and _near(found[1], expected[0], tolerance)
        and _near(found[0], expected[1], tolerance)
    )


def own_logits(model: Any) -> list[Any]:
    """The logits after each of two short sequences, as the model itself computes them."""
    with torch.inference_mode():
        return [
            model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[0, -1].float()
            for ids in _PROBE
        ]


def _near(found: Any, expected: Any, tolerance: float) -> bool:
    return float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())


def _sliding_layers(model: Any) -> set[int]:
    """Layers that the configuration gives a window to. -1 among them for a kind that is not known here."""
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        whole = range(config.num_hidden_layers)
        return set(whole) if getattr(config, "sliding_window", None) else set()
    known = {"full_attention", "sliding_attention"}
    found = {layer for layer, kind in enumerate(kinds) if kind == "sliding_attention"}
    return found if set(kinds) <= known else found | {-1}


def _mask(count: int, length: int, window: int | None, device: Any) -> Any:
    """Which of ``length`` tokens each of the last ``count`` sees: those before it and itself, within its window."""
    places = torch.arange(length, device=device)
    own = places[length - count :, None]
    seen = places <= own
    return seen if window is None else seen & (places > own - window)


def _plain(
    query: Any, keys: Any, values: Any, scaling: float | None, softcap: float | None, sinks: Any, mask: Any
) -> Any:
    """Attention with what the fused kernels have not: a soft limit of the scores, and sinks."""
    groups = query.shape[0] // keys.shape[0]
    keys, values = keys.repeat_interleave(groups, 0), values.repeat_interleave(groups, 0)
    scores = (query @ keys.transpose(1, 2)).float() * (
        query.shape[-1] ** -0.5 if scaling is None else scaling
    )
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~mask, float("-inf"))
    if sinks is not None:
        column = sinks.float()[:, None, None].expand(-1, scores.shape[1], 1)
        scores = torch.cat([scores, column], -1)
    weights = scores.softmax(-1)[..., : keys.shape[1]]
    return weights.to(values.dtype) @ values


def _move(cache: Any, moves: list[Move]) -> None:
    with torch.inference_mode():
        held = [cache[:, move.source.start : move.source.end].clone() for move in moves]
        for move, tokens in zip(moves, held, strict=True):
            cache[:, move.start : move.start + move.source.size] = tokens
