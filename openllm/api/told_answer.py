"""An answer whose choices tell their tokens' logprobs or the prompt, or are judged by their logprobs."""

from __future__ import annotations

import msgspec

from openllm.api.answer import Answer, ChoiceEvent, Order, Reader
from openllm.api.token_teller import MeanLogprob
from openllm.chat.events import Finished
from openllm.engines.base import Delta
from openllm.fleet.desk import Desk


class ToldAnswer(Answer):
    """Every choice has a teller. It is a class of its own so that plain answers ask nothing of this per token."""

    def __init__(self, desk: Desk, order: Order, reader: Reader) -> None:
        self._tellers = [choice.teller for choice in order.choices]
        self._means = [MeanLogprob() for _ in order.choices]
        self._names = order.option_names
        super().__init__(desk, order, reader)

    def mean_logprob(self, index: int) -> float:
        """Of the choice ``index``, a token."""
        return self._means[index].value

    def _receive(self, delta: Delta) -> None:
        known = self._open.get(delta.id)
        if known is None:
            return
        if delta.finish == "error":
            self._fail(delta)
            return
        index, detokenizer, parser = known
        teller = self._tellers[index]
        assert teller is not None
        thought = parser is not None and parser.thinking
        self.usage.add(delta, len(delta.tokens) if teller.keeps else 0)
        self._means[index].add(delta)
        events = teller.take(delta)
        if thought or (parser is not None and parser.thinking):  # the marks around it count too
            self.usage.reasoning_tokens += len(delta.tokens)
        if delta.finish is None and detokenizer.stopped is None:
            if events:
                self._reader.read([(index, happened) for happened in events])
            return
        events += teller.finish()
        limited = not teller.keeps or (delta.finish == "length" and detokenizer.stopped is None)
        pairs: list[ChoiceEvent] = [(index, happened) for happened in events]
        self._end(delta, index, pairs, Finished("length" if limited else "stop", detokenizer.stopped))

    def _fail(self, delta: Delta) -> None:
        words, field = self._names.get(delta.param, (delta.param, delta.param))
        error = delta.error.replace(delta.param, words, 1) if delta.param else delta.error
        super()._fail(msgspec.structs.replace(delta, error=error, param=field))
