"""One sequence of the transformers engine."""

from __future__ import annotations

from concurrent.futures import Future

from openllm.engines.base import Delta, FinishReason, Generation, Logprobs
from openllm.engines.llguidance_guides import GuidePlace
from openllm.engines.token_choice import Chooser, logprob_rows
from openllm.engines.transformers_forward import Piece


class Sequence:
    """Its tokens, of which the first ``computed`` are in the KV cache, and how the next one is chosen."""

    def __init__(self, request: Generation, chooser: Chooser, guide: Future[GuidePlace] | None) -> None:
        self.request = request
        self.chooser = chooser
        self.guide = guide
        self.tokens = list(request.prompt)
        self.computed = 0
        self._told: list[Logprobs] = []  # of the prompt
        self._silent = True

    @property
    def id(self) -> int:
        return self.request.id

    @property
    def waits_for_its_guide(self) -> bool:
        return self.guide is not None and not self.guide.done()

    def next_piece(self, most: int) -> Piece:
        """Up to ``most`` of the tokens that are to be computed, and what is wanted of them."""
        ids = self.tokens[self.computed : self.computed + most]
        end = self.computed + len(ids)
        wanted = [at for at in range(len(ids)) if self._tells(self.computed + at)]
        if end == len(self.tokens) and (not wanted or wanted[-1] != len(ids) - 1):
            wanted.append(len(ids) - 1)
        return Piece(self.id, ids, self.computed, wanted)

    def _tells(self, place: int) -> bool:
        """Are the logits at this place those of a token of the prompt that is to be told and was not yet?"""
        asked = self.request.sampling.prompt_logprobs is not None
        return asked and len(self._told) <= place < len(self.request.prompt) - 1

    def computed_piece(self, piece: Piece, logits: object) -> bool:
        """The piece is in the cache; ``logits`` are those that it wanted. Is a token to be chosen now?"""
        places = [piece.start + at for at in piece.wanted if self._tells(piece.start + at)]
        if places:
            nexts = [self.request.prompt[place + 1] for place in places]
            top = self.request.sampling.prompt_logprobs or 0
            self._told += logprob_rows(logits[: len(places)], nexts, top)  # type: ignore[index]
        self.computed += len(piece.ids)
        return self.computed == len(self.tokens)

    def delta(self, token: int, logprobs: list[Logprobs] | None) -> Delta:
        """Take the next token: what it adds, and whether it ends the sequence."""
        sampling = self.request.sampling
        self.tokens.append(token)
        finish: FinishReason | None = None
        made = len(self.tokens) - len(self.request.prompt)
        if token in sampling.stop_ids:
            finish = "stop"
        elif made >= sampling.max_tokens:
            finish = "length"
        stopped = finish == "stop"
        told = self._told if sampling.prompt_logprobs is not None and self._silent else None
        self._silent = False
        if stopped and logprobs is not None:
            logprobs = []
        return Delta(self.id, [] if stopped else [token], finish, logprobs=logprobs, prompt_logprobs=told)
