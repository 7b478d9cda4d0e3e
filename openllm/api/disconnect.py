"""Stops the work for a client that has gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from starlette.types import Receive

CLIENT_CLOSED_REQUEST = 499
"""nginx's number for the answer to such a request; nobody reads it."""


class ClientGoneError(Exception):
    """The client closed its connection before the answer was complete."""


async def until_disconnected(receive: Receive) -> None:
    """Wait until the client has gone or the response is complete: ASGI's ``http.disconnect`` means both.

    The request's body must have been read.
    """
    while (await receive())["type"] != "http.disconnect":
        pass


@asynccontextmanager
async def while_connected(receive: Receive) -> AsyncIterator[None]:
    """Cancel the block when the client disconnects, and raise ``ClientGoneError`` after it."""
    task = asyncio.current_task()
    assert task is not None
    gone = False

    def leave(watch: asyncio.Task[None]) -> None:
        nonlocal gone
        if not watch.cancelled():
            gone = True
            task.cancel()

    watch = asyncio.create_task(until_disconnected(receive))
    watch.add_done_callback(leave)
    try:
        yield
    except asyncio.CancelledError:
        if not gone:
            raise
        task.uncancel()
        raise ClientGoneError from None
    finally:
        watch.remove_done_callback(leave)
        watch.cancel()


async def answered(request: Request, answer: Coroutine[Any, Any, Response]) -> Response:
    """What ``answer`` comes to. It is cancelled if the client goes, who then has an answer that it cannot read."""
    try:
        async with while_connected(request.receive):
            return await answer
    except ClientGoneError:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
