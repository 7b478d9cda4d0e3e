"""The answer to a request for vectors: complete when each text has its own."""

from __future__ import annotations

import asyncio

from openllm import errors
from openllm.api.exchange import submit_encodings
from openllm.api.text_encoder import Text
from openllm.engines.encoding import Vector
from openllm.errors import OpenLLMError, RunnerDied
from openllm.fleet.desk import Desk


class VectorAnswer:
    """Submits ``texts`` together. ``abandon`` must be called when nobody waits on; it is harmless after the end.

    Raises ``RateLimited``.
    """

    def __init__(self, desk: Desk, texts: list[Text]) -> None:
        self._desk = desk
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._values = [b""] * len(texts)
        self._submission = submit_encodings(desk, texts, self._take)
        self._places = {id: place for place, id in enumerate(self._submission.ids)}

    async def complete(self) -> list[bytes]:
        """The vectors in the texts' order, float32, little endian. Raises the error of the first that failed."""
        await self._done
        return self._values

    def abandon(self) -> None:
        """Leave the texts that were not encoded yet."""
        self._places.clear()
        self._desk.cancel(self._submission)

    def _take(self, vector: Vector) -> None:
        place = self._places.pop(vector.id, None)
        if place is None or self._done.done():
            return
        if vector.error:
            self.abandon()
            kind: type[OpenLLMError] = getattr(errors, vector.kind, RunnerDied)
            self._done.set_exception(kind(vector.error, param=vector.param or None))
            return
        self._values[place] = vector.values
        if not self._places:
            self._done.set_result(None)


async def encode(desk: Desk, texts: list[Text]) -> list[bytes]:
    """Encode ``texts`` and wait; cancelled, it leaves what was not encoded yet.

    Raises ``RateLimited``, or the error of the first text that failed.
    """
    answer = VectorAnswer(desk, texts)
    try:
        return await answer.complete()
    finally:
        answer.abandon()
