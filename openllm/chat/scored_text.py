"""The text of an answer together with the logprobs of the tokens that it is made of."""

from __future__ import annotations

from collections.abc import Sequence

from openllm.chat.detokenizer import Detokenizer
from openllm.chat.events import TextDelta, TextLogprobs
from openllm.chat.token_texts import TokenTexts
from openllm.chat.tokenizer import ChatTokenizer

Places = Sequence[Sequence[tuple[int, float]]]
"""For each token: ids and logprobs, its own first, then the likeliest ones."""


class ScoredText:
    """One answer's. Not thread-safe.

    A token is told with the first of its text that is sent. What a stop string cuts off is not told, but a token
    that the cut goes through is. Without ``texts`` the text comes alone. The sum of the deltas does not depend on
    how the ids were split. ``offset`` is where the text begins within the whole.
    """

    def __init__(self, detokenizer: Detokenizer, texts: TokenTexts | None, offset: int = 0) -> None:
        self._detokenizer = detokenizer
        self._texts = texts
        self._sent = offset
        self._waiting: list[TextLogprobs] = []

    def push(self, ids: Sequence[int], places: Places | None) -> TextDelta:
        """What is certain with more tokens, maybe nothing; ``places`` has an entry for each."""
        if self._texts is None:
            return TextDelta(self._detokenizer.push(ids))
        text = ""
        for index, place in zip(ids, places or (), strict=True):
            if self._detokenizer.stopped is not None:
                break
            self._waiting.append(self._texts.place(place, self._sent + self._detokenizer.held))
            piece = self._detokenizer.push((index,))
            self._sent += len(piece)
            text += piece
        return TextDelta(text, self._told())

    def finish(self) -> TextDelta:
        """What was held back."""
        text = self._detokenizer.finish()
        self._sent += len(text)
        return TextDelta(text, self._told(last=self._detokenizer.stopped is None))

    def _told(self, *, last: bool = False) -> tuple[TextLogprobs, ...]:
        """Those whose text has begun to be sent; all, if there was no cut behind the ``last``."""
        waiting = self._waiting
        count = len(waiting)
        while not last and count and waiting[count - 1].offset >= self._sent:
            count -= 1
        told, self._waiting = tuple(waiting[:count]), waiting[count:]
        return told


def scored_prompt(
    tokenizer: ChatTokenizer, texts: TokenTexts, ids: Sequence[int], text: str, places: Places | None
) -> TextDelta:
    """A prompt whose text is ``text``; ``places`` has an entry for each token but the first, of which nothing but the
    text is known."""
    detokenizer = Detokenizer(tokenizer, ())
    told = []
    at = 0
    for index, place in zip(ids, (None, *(places or ())), strict=True):
        offset = min(at, len(text))
        told.append(
            TextLogprobs(texts.token(index, None), (), offset)
            if place is None
            else texts.place(place, offset)
        )
        at += len(detokenizer.push((index,)))
    return TextDelta(text, tuple(told))
