"""An encoder without weights: a text's vector counts its tokens. For tests of all that is not an engine."""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Callable

from openllm.engines.base import EngineConfig
from openllm.engines.echo_engine import read_options
from openllm.engines.encoding import Encoding, Vector
from openllm.engines.encoding_queue import EncodingQueue

WIDTH = 16
_MOST_TOKENS = 8192
_VOCABULARY = 1 << 31


class EchoEncoder:
    """See ``engines.encoding.Encoder``. A vector has ``WIDTH`` numbers: how many of the tokens leave which rest,
    brought to the length 1. A pair's score is the part of its second text's tokens that its first text has."""

    def __init__(self, config: EngineConfig, report: Callable[[str], None]) -> None:
        options = read_options(config.options)
        self._delay = options.delay
        self._scores = config.encoder is not None and config.encoder.task == "rerank"
        self._queue = EncodingQueue(
            context=config.context,
            vocabulary=_VOCABULARY,
            most_texts=config.max_sequences,
            most_tokens=max(_MOST_TOKENS, config.context),
        )
        report("loading the echo encoder")
        time.sleep(options.load)

    def add(self, request: Encoding) -> None:
        self._queue.add(request)

    def abort(self, request_id: int) -> None:
        self._queue.remove(request_id)

    def step(self) -> list[Vector]:
        if self._delay:
            time.sleep(self._delay)
        values = _score if self._scores else _counts
        return [Vector(each.id, array("f", values(each)).tobytes()) for each in self._queue.take()]

    def busy(self) -> bool:
        return bool(self._queue)

    def close(self) -> None:
        self._queue.clear()


def _counts(text: Encoding) -> list[float]:
    counts = [0.0] * WIDTH
    for token in text.ids:
        counts[token % WIDTH] += 1
    length = math.hypot(*counts)
    return [count / length for count in counts]


def _score(pair: Encoding) -> list[float]:
    first, second = set(pair.ids[: pair.second]), pair.ids[pair.second :]
    return [sum(token in first for token in second) / max(1, len(second))]
