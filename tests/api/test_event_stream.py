"""The stream's own ways: a client that reads slowly, one that goes, errors before and after the first bytes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from openllm.api import event_stream
from openllm.api.event_stream import EventStream
from openllm.api.http_protocol import ABORT
from openllm.errors import RequestError


class Client:
    """An ASGI server's side: ``send`` waits while ``reads`` is cleared, as a full socket does."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self.left = asyncio.Event()

    async def send(self, message: Any) -> None:
        if not self.reads.is_set():
            await self.reads.wait()
        self.messages.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.left.set()

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)

    @property
    def complete(self) -> bool:
        return not self.messages[-1].get("more_body", False)


async def serve(stream: EventStream, client: Client) -> None:
    async with asyncio.timeout(5):
        await stream({"type": "http"}, client.receive, client.send)


async def test_what_is_written_is_sent_in_order() -> None:
    async def produce(stream: EventStream) -> None:
        for number in range(100):
            stream.write(b"%d," % number)

    client = Client()
    await serve(EventStream(produce), client)
    assert client.body == b"".join(b"%d," % number for number in range(100))
    assert client.messages[0]["status"] == 200
    assert client.complete


async def test_a_slow_reader_loses_nothing_and_stops_nobody() -> None:
    client = Client()

    async def produce(stream: EventStream) -> None:
        for number in range(200):
            if number in (3, 60, 150):
                client.reads.clear()
            stream.write(b"%d," % number)
            if number in (50, 59, 199):
                client.reads.set()
            if number % 7 == 0:
                await asyncio.sleep(0)

    await serve(EventStream(produce), client)
    assert client.body == b"".join(b"%d," % number for number in range(200))
    assert client.complete


async def test_a_client_that_leaves_ends_the_producer_even_while_it_reads_nothing() -> None:
    client = Client()
    ended = asyncio.Event()

    async def produce(stream: EventStream) -> None:
        client.reads.clear()
        stream.write(b"one")
        client.left.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    await serve(EventStream(produce), client)
    assert ended.is_set()


async def test_an_error_before_the_first_bytes_has_its_status() -> None:
    async def produce(_: EventStream) -> None:
        raise RequestError("No.")

    client = Client()
    await serve(EventStream(produce), client)
    assert client.messages[0]["status"] == 400
    assert b'"No."' in client.body


async def test_an_error_after_the_first_bytes_is_an_event() -> None:
    async def produce(stream: EventStream) -> None:
        stream.write(b"data: 1\n\n")
        raise RequestError("No.")

    client = Client()
    await serve(EventStream(produce), client)
    assert client.messages[0]["status"] == 200
    assert client.body.startswith(b'data: 1\n\ndata: {"error":{"message":"No."')
    assert client.complete


async def test_a_client_that_leaves_too_much_unread_is_cut_off() -> None:
    client = Client()
    written = 0

    async def produce(stream: EventStream) -> None:
        nonlocal written
        client.reads.clear()
        while True:
            stream.write(b"x" * 10_000)
            written += 10_000
            await asyncio.sleep(0)

    async with asyncio.timeout(5):
        await EventStream(produce)({"type": "http", ABORT: client.left.set}, client.receive, client.send)
    assert 1_000_000 < written < 1_200_000


async def test_a_client_that_reads_nothing_for_long_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "_STALL_SECONDS", 0.2)
    client = Client()

    async def produce(stream: EventStream) -> None:
        client.reads.clear()
        stream.write(b"one")

    async with asyncio.timeout(5):
        await EventStream(produce)({"type": "http", ABORT: client.left.set}, client.receive, client.send)
