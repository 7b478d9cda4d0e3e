"""Gets a request answered at low priority: when there is a place, when the engine is ready, and again if need be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from openllm.batches.lines import Line

_LOOK_SECONDS = 0.1  # between two looks at an engine that is not ready
_LONGEST_WAIT = 30.0
_MOST_DEATHS = 3
_MOST_FAILURES = 10
_BUSY, _UNAVAILABLE = 429, 503


class Reply(msgspec.Struct, frozen=True):
    """What the application answered: ``code`` is that of its error, ``retry_after`` in seconds if it said so."""

    status: int
    request_id: str
    body: bytes
    code: str | None = None
    retry_after: float | None = None


Send = Callable[[str, str, bytes], Awaitable[Reply]]
"""Sends a body to a route: (owner, path, body)."""


class Attempts:
    """``send`` asks the application, ``ready`` says whether it can answer for a model now.

    ``places`` bounds the requests under way, of all batches together; they are passed on in the order in which
    they were asked for, so batches take turns.
    """

    def __init__(self, send: Send, ready: Callable[[str], bool], width: int) -> None:
        self.places = asyncio.Semaphore(width)
        self._send = send
        self._ready = ready
        # Whatever ended a runner is tried again by itself, so that it is not its neighbours that are blamed.
        self._alone = asyncio.Lock()

    async def answer(self, owner: str, model: str, line: Line) -> Reply:
        """The final reply to a line of a batch for ``model``.

        A full queue (429) is waited for without end: the batch's window bounds it. An engine that was not there
        (503) is tried ten times, a request whose runner died three times.
        """
        deaths = failures = busy = 0
        while True:
            if deaths:
                async with self._alone:
                    reply = await self._try(owner, model, line)
            else:
                reply = await self._try(owner, model, line)
            if reply.status == _BUSY:
                busy += 1
            elif reply.status != _UNAVAILABLE:
                return reply
            elif reply.code == "runner_died":
                deaths += 1
            else:
                failures += 1
            if deaths >= _MOST_DEATHS or failures >= _MOST_FAILURES:
                return reply
            await asyncio.sleep(_delay(deaths + failures + busy, reply.retry_after))

    async def until_ready(self, model: str) -> None:
        """Wait until ``model`` can answer."""
        while not self._ready(model):  # noqa: ASYNC110 - what it depends on is not this room's to signal
            await asyncio.sleep(_LOOK_SECONDS)

    async def _try(self, owner: str, model: str, line: Line) -> Reply:
        await self.until_ready(model)
        return await self._send(owner, line.url, bytes(line.body))


def _delay(attempt: int, retry_after: float | None) -> float:
    """Seconds before the next attempt: doubled from a half on, and no less than the server asked for."""
    return min(_LONGEST_WAIT, max(0.25 * 2.0 ** min(attempt, 10), retry_after or 0.0))
