"""CPU of one Server-Sent Event in our own response and in sse-starlette's, without sockets.

    .venv/bin/pip install sse-starlette
    .venv/bin/python -m benchmarks.sse_cost

64 streams get an event at each of 300 steps. Printed: microseconds of CPU an event.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import uvloop
from starlette.types import Receive, Scope, Send

from openllm.api.event_stream import EventStream

STREAMS, STEPS, ROUNDS = 64, 300, 3
SCOPE: Scope = {"type": "http", "asgi": {"version": "3.0"}, "method": "GET", "path": "/", "headers": []}
TEXT = '{"choices":[{"index":0,"delta":{"content":"hello"}}]}'


def client() -> tuple[Receive, Send]:
    """An ASGI server's side that takes everything at once."""
    complete = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await complete.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            complete.set()

    return receive, send


async def measure(write_all: Callable[[], None], turns: int) -> float:
    """Microseconds an event; ``turns`` of the loop let the streams' tasks run after each step."""
    begun = time.process_time()
    for _ in range(STEPS):
        write_all()
        for _ in range(turns):
            await asyncio.sleep(0)
    return (time.process_time() - begun) / STREAMS / STEPS * 1e6


async def ours() -> float:
    end = asyncio.Event()

    async def produce(_: EventStream) -> None:
        await end.wait()

    streams = [EventStream(produce) for _ in range(STREAMS)]
    tasks = [asyncio.create_task(stream(SCOPE, *client())) for stream in streams]
    await asyncio.sleep(0.1)
    chunk = f"data: {TEXT}\n\n".encode()

    def write_all() -> None:
        for stream in streams:
            stream.write(chunk)

    cost = await measure(write_all, 1)
    end.set()
    await asyncio.gather(*tasks)
    return cost


async def theirs() -> float:
    from sse_starlette import EventSourceResponse  # type: ignore[import-not-found, unused-ignore]

    queues: list[asyncio.Queue[str | None]] = [asyncio.Queue() for _ in range(STREAMS)]

    async def events(queue: asyncio.Queue[str | None]) -> AsyncIterator[dict[str, str]]:
        while (text := await queue.get()) is not None:
            yield {"data": text}

    responses: list[Awaitable[None]] = [EventSourceResponse(events(q))(SCOPE, *client()) for q in queues]
    tasks = [asyncio.ensure_future(response) for response in responses]
    await asyncio.sleep(0.1)

    def write_all() -> None:
        for queue in queues:
            queue.put_nowait(TEXT)

    cost = await measure(write_all, 3)
    for queue in queues:
        queue.put_nowait(None)
    await asyncio.gather(*tasks)
    return cost


def main() -> None:
    for _ in range(ROUNDS):
        print(f"ours {uvloop.run(ours()):.1f} us, sse-starlette {uvloop.run(theirs()):.1f} us")


if __name__ == "__main__":
    main()
