"""Texts that wait to be encoded, and which of them go together. No engine in here."""

from __future__ import annotations

from itertools import islice

from openllm.engines.encoding import Encoding
from openllm.errors import ContextLengthExceeded, RequestError

# Of the oldest texts, among how many those of like length are looked for.
_WINDOW = 2048


class EncodingQueue:
    """Hands out batches of at most ``most_texts`` texts and ``most_tokens`` tokens, padding included.

    Each batch begins with the oldest text, so that none waits for ever, and takes those nearest to it in length:
    a batch costs as if all were as long as its longest.
    """

    def __init__(self, *, context: int, vocabulary: int, most_texts: int, most_tokens: int) -> None:
        self._context = context
        self._vocabulary = vocabulary
        self._most_texts = most_texts
        self._most_tokens = most_tokens
        self._waiting: dict[int, Encoding] = {}

    def add(self, request: Encoding) -> None:
        """Queue a text. Raises as ``Encoder.add`` does."""
        check_encoding(request, context=self._context, vocabulary=self._vocabulary)
        self._waiting[request.id] = request

    def remove(self, request_id: int) -> None:
        """Forget a text, if it waits."""
        self._waiting.pop(request_id, None)

    def clear(self) -> None:
        """Forget all."""
        self._waiting.clear()

    def take(self) -> list[Encoding]:
        """The next batch, removed from the queue; the queue must not be empty."""
        oldest = next(iter(self._waiting.values()))
        length = len(oldest.ids)
        window = list(islice(self._waiting.values(), 1, _WINDOW))
        window.sort(key=lambda each: abs(len(each.ids) - length))
        batch, longest = [oldest], length
        for each in window:
            wider = max(longest, len(each.ids))
            if len(batch) == self._most_texts or wider * (len(batch) + 1) > self._most_tokens:
                break
            batch.append(each)
            longest = wider
        for each in batch:
            del self._waiting[each.id]
        return batch

    def __len__(self) -> int:
        return len(self._waiting)


def check_encoding(request: Encoding, *, context: int, vocabulary: int) -> None:
    """Raise ``RequestError`` or ``ContextLengthExceeded`` for what no encoder takes."""
    if not request.ids:
        raise RequestError("An input has no tokens.", hint="Send at least one token.", param="input")
    if len(request.ids) > context:
        raise ContextLengthExceeded(
            f"An input has {len(request.ids)} tokens; the model takes {context}.",
            hint="Shorten it, or send truncate_prompt_tokens.",
            param="input",
        )
    if min(request.ids) < 0 or max(request.ids) >= vocabulary:
        raise RequestError(
            f"An input holds a token id outside 0..{vocabulary - 1}.",
            hint="Tokenize with the served model's own tokenizer.",
            param="input",
        )
