"""transformers, for what no other engine runs: any architecture that its ``generate`` knows, and bitsandbytes.

Sequences of all lengths share a step (``transformers_ragged``) where that is right for the model, else they take
turns within it (``transformers_apart``). transformers' own continuous batching is not used: of ``Sampling`` it
honours temperature, top_k and top_p only, and it runs in a thread of its own.

Refused: an empty or too long prompt, ids outside the vocabulary, values out of range, more than 20 logprobs a place,
adapters, images, and guides that llguidance cannot compile. Everything else in ``Sampling`` is honoured.
``Delta.cached`` is 0: no prefix is kept.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Read when torch is imported. By default its threads turn in circles where they wait for each other, and so take the
# core from the very thread that they wait for, wherever the front or anything else needs one too.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from openllm.engines.base import Delta, EngineConfig, Generation
from openllm.engines.limits import (
    check_biases,
    check_ids,
    check_lengths,
    check_logprobs,
    refuse_adapter,
    refuse_images,
)
from openllm.engines.llguidance_guides import GuideCompiler
from openllm.engines.refusal import refusal
from openllm.engines.safetensors_convert import converted
from openllm.engines.token_choice import Chooser, check_range, choose, logprob_rows
from openllm.engines.torch_forms import torch_forms
from openllm.engines.transformers_apart import ApartForward
from openllm.engines.transformers_forward import Forward, Piece
from openllm.engines.transformers_load import load_model, refuse_options
from openllm.engines.transformers_ragged import RaggedForward, is_right, own_logits
from openllm.engines.transformers_sequence import Sequence
from openllm.errors import OpenLLMError, RequestError, RunnerFailed

MOST_LOGPROBS = 20
_PAUSE_SECONDS = 0.001


class TransformersEngine:
    """See ``engines.base.Engine``."""

    def __init__(self, config: EngineConfig, report: Callable[[str], None]) -> None:
        refuse_options(config)
        path = Path(config.path)
        if path.suffix == ".gguf":
            path = converted(path, Path(config.cache), report)
        report(f"loading {config.name} with transformers")
        if config.device == "cpu" and config.threads:
            torch.set_num_threads(config.threads)
        self._model = load_model(config, path)
        self._forward = _forward(self._model, config.kv_cache_bytes)
        self._context = config.context
        self._width = config.max_sequences
        self._vocabulary: int = self._model.config.get_text_config().vocab_size
        self._guides = GuideCompiler(config, self._vocabulary)
        self._waiting: dict[int, Sequence] = {}
        self._running: dict[int, Sequence] = {}

    def add(self, request: Generation) -> None:
        sampling = request.sampling
        refuse_adapter(request)
        refuse_images(request)
        check_lengths(request, self._context)
        check_ids(request, self._vocabulary)
        check_biases(request, self._vocabulary)
        check_logprobs(request, MOST_LOGPROBS)
        wrong = check_range(sampling)
        if wrong is not None:
            raise RequestError(
                f"{wrong[0]} {wrong[1]} is out of range.", hint="See the API reference.", param=wrong[0]
            )
        guide = None
        if sampling.guide is not None:
            self._guides.check(request, sampling.guide)
            guide = self._guides.run(self._guides.compile, sampling.guide, sampling.stop_ids)
        chooser = Chooser(sampling, request.prompt, self._vocabulary, self._model.device)
        self._waiting[request.id] = Sequence(request, chooser, guide)

    def abort(self, request_id: int) -> None:
        if self._waiting.pop(request_id, None) is None and self._running.pop(request_id, None) is not None:
            self._forward.free(request_id)

    def step(self) -> list[Delta]:
        refused = self._refuse_guides()
        pieces, failed = self._pieces()
        if not pieces:
            if not refused and not failed:
                time.sleep(_PAUSE_SECONDS)  # all that there is waits for its guide to be compiled
            return refused + failed
        logits = self._forward.run(pieces)
        return refused + failed + self._take(pieces, logits)

    def busy(self) -> bool:
        return bool(self._waiting or self._running)

    def weight_forms(self) -> dict[str, int]:
        return torch_forms(self._model)

    def close(self) -> None:
        self._guides.close()
        for request_id in (*self._waiting, *self._running):
            self.abort(request_id)
        self._model = None

    def _refuse_guides(self) -> list[Delta]:
        """End the sequences whose guide could not be compiled, and give the others theirs."""
        refused = []
        for sequence in [each for each in self._waiting.values() if each.guide and each.guide.done()]:
            assert sequence.guide is not None
            try:
                sequence.chooser.place = sequence.guide.result()
            except Exception as error:  # one bad guide must not take the others down
                told = (
                    error if isinstance(error, OpenLLMError) else RunnerFailed(f"The guide failed: {error}")
                )
                del self._waiting[sequence.id]
                refused.append(refusal(sequence.id, told))
            sequence.guide = None
        return refused

    def _pieces(self) -> tuple[list[Piece], list[Delta]]:
        """What this step computes: the next token of each answer, then prompts as far as they go."""
        pieces: list[Piece] = []
        failed: list[Delta] = []
        left = self._forward.chunk
        for sequence in list(self._running.values()):
            if sequence.id not in self._running:  # it made room for an older one
                continue
            piece = sequence.next_piece(max(left, 1) if self._forward.chunk else len(sequence.tokens))
            if not self._room(sequence, piece):
                failed.append(self._too_small(sequence))
                continue
            left -= len(piece.ids)
            pieces.append(piece)
        pieces = [piece for piece in pieces if piece.key in self._running]
        for sequence in list(self._waiting.values()):
            if len(self._running) >= self._width or (self._forward.chunk and left <= 0):
                break
            if sequence.waits_for_its_guide:
                continue
            piece = sequence.next_piece(left if self._forward.chunk else len(sequence.tokens))
            if not self._forward.grow(sequence.id, len(sequence.tokens)):
                if not self._running:
                    del self._waiting[sequence.id]
                    failed.append(self._too_small(sequence))
                    continue
                break
            del self._waiting[sequence.id]
            self._running[sequence.id] = sequence
            left -= len(piece.ids)
            pieces.append(piece)
            if not self._forward.chunk:  # whole prompts, one at a time: the answers wait for each
                break
        return pieces, failed

    def _room(self, sequence: Sequence, piece: Piece) -> bool:
        """Make room for a running sequence, by having the latest ones begin again later if need be."""
        while not self._forward.grow(sequence.id, piece.start + len(piece.ids)):
            latest = next(reversed(self._running.values()))
            if latest is sequence and len(self._running) == 1:
                return False
            del self._running[latest.id]
            self._forward.free(latest.id)
            latest.computed = 0
            self._waiting = {latest.id: latest, **self._waiting}
            if latest is sequence:
                return True
        return True

    def _too_small(self, sequence: Sequence) -> Delta:
        self._running.pop(sequence.id, None)
        self._forward.free(sequence.id)
        return refusal(
            sequence.id,
            RunnerFailed(
                f"The KV cache of {self._forward.total} tokens is too small for this sequence.",
                hint="Raise --kv-cache.",
            ),
        )

    def _take(self, pieces: list[Piece], logits: Any) -> list[Delta]:
        """Choose the next tokens from what a step gave."""
        ready: list[Sequence] = []
        rows: list[int] = []
        at = 0
        for piece in pieces:
            sequence = self._running[piece.key]
            count = len(piece.wanted)
            if sequence.computed_piece(piece, logits[at : at + count]):
                ready.append(sequence)
                rows.append(at + count - 1)
            at += count
        if not ready:
            return []
        chosen_from = logits[rows]
        told = {index: chosen_from[index].clone() for index, each in enumerate(ready) if _asks(each)}
        tokens = choose(chosen_from, [sequence.chooser for sequence in ready])
        return [
            self._delta(sequence, token, told.get(index))
            for index, (sequence, token) in enumerate(zip(ready, tokens, strict=True))
        ]

    def _delta(self, sequence: Sequence, token: int, row: Any) -> Delta:
        if not sequence.chooser.took(token):
            delta = refusal(
                sequence.id, RunnerFailed("The guide of this sequence cannot be followed further.")
            )
        else:
            top = sequence.request.sampling.logprobs or 0
            delta = sequence.delta(token, None if row is None else logprob_rows(row[None], [token], top))
        if delta.finish is not None:
            del self._running[sequence.id]
            self._forward.free(sequence.id)
        return delta


def _asks(sequence: Sequence) -> bool:
    return sequence.request.sampling.logprobs is not None


def _forward(model: Any, cache_bytes: int) -> Forward:
    """All sequences in one step, if that gives the answers that the model itself gives."""
    own = model.config._attn_implementation
    expected = own_logits(model)
    try:
        ragged = RaggedForward(model, cache_bytes)
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError):
        ragged = None
    if ragged is not None and is_right(ragged, model, expected):
        return ragged
    model.set_attn_implementation(own)
    return ApartForward(model, cache_bytes)
