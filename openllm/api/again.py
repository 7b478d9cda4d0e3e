"""Asks the engine again for an answer that was lost with its runner, if nobody has been told anything of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from openllm.api.answer import Answer
from openllm.api.exchange import EXCHANGE
from openllm.api.readers import Reading
from openllm.api.service import Service
from openllm.errors import AnswerLost

# A request that ends its runner after the first token would end one after the other.
_MOST_LOSSES = 8


async def read_answer(service: Service, submit: Callable[[], Awaitable[Answer]], reader: Reading) -> Answer:
    """Submit for ``reader``, again if need be, and wait until it has a complete answer; that answer.

    Cancelled, it stops the generation. Raises what ended the answer.
    """
    losses = 0
    while True:
        answer = await submit()
        try:
            await reader.complete()
        except AnswerLost:
            losses += 1
            if losses == _MOST_LOSSES or not reader.begin_again():
                raise
        else:
            return answer
        finally:
            answer.abandon()
        refusal = service.keeper.refusal()
        if refusal is not None:
            raise refusal
        exchange = EXCHANGE.get()
        if exchange is not None:
            exchange.lost()
