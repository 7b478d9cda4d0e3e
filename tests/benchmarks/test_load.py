"""The load generator against a server that is scripted here: a real one does not misbehave on demand."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from benchmarks.load import Load, Target, run_load

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def _chunk(value: object) -> bytes:
    data = b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(data), data)


def whole_answer(tokens: int) -> bytes:
    words = [_chunk({"choices": [{"delta": {"content": f"w{n} "}}]}) for n in range(tokens)]
    end = _chunk({"choices": [{"delta": {}, "finish_reason": "length"}]})
    usage = _chunk({"choices": [], "usage": {"completion_tokens": tokens, "prompt_tokens": 9}})
    return HEAD + b"".join(words) + end + usage + _chunk(b"[DONE]") + b"0\r\n\r\n"


Script = Callable[[int, int], tuple[bytes, bool]]
"""(number of the request, its max_tokens) -> (bytes to answer, close the connection afterwards)"""


class ScriptedServer:
    def __init__(self, script: Script) -> None:
        self.script = script
        self.bodies: list[dict[str, object]] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                body = json.loads(await reader.readexactly(length))
                self.bodies.append(body)
                answer, close = self.script(len(self.bodies), body["max_tokens"])
                writer.write(answer)
                await writer.drain()
                if close:
                    break
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


async def _answered() -> None:
    """Wait until every connection is closed."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others)


@contextmanager
def running(script: Script) -> Iterator[tuple[ScriptedServer, Target]]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    scripted = ScriptedServer(script)
    listening = asyncio.run_coroutine_threadsafe(
        asyncio.start_server(scripted.serve, "127.0.0.1", 0), loop
    ).result()
    port = listening.sockets[0].getsockname()[1]
    try:
        yield scripted, Target("127.0.0.1", port, "m")
    finally:
        loop.call_soon_threadsafe(listening.close)
        asyncio.run_coroutine_threadsafe(_answered(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.mark.parametrize(("close", "connections"), [(False, 3), (True, 12)])
def test_every_request_is_answered_on_kept_and_on_closed_connections(close: bool, connections: int) -> None:
    with running(lambda number, tokens: (whole_answer(tokens), close)) as (server, target):
        result = run_load(target, Load(streams=3, requests=12, max_tokens=5))
    assert result.errors == []
    assert (result.tokens, server.connections) == (60, connections)
    figures = result.figures()
    assert figures["tokens_per_event"] == 1.0
    assert figures["tokens_per_s"] == pytest.approx(60 / result.seconds)
    assert 0 < figures["ttft_p50"] <= figures["ttft_p99"]


def test_requests_are_distinct_greedy_and_of_fixed_length() -> None:
    with running(lambda number, tokens: (whole_answer(tokens), False)) as (server, target):
        run_load(target, Load(streams=2, requests=6, max_tokens=5, first=40))
    messages = [json.dumps(body["messages"]) for body in server.bodies]
    assert len(set(messages)) == 6
    assert all(body["temperature"] == 0 and body["ignore_eos"] and body["stream"] for body in server.bodies)


def test_wrong_answers_are_counted_and_kept_out_of_the_figures() -> None:
    refusal = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"

    def script(number: int, tokens: int) -> tuple[bytes, bool]:
        if number == 1:
            return refusal, False
        if number == 2:
            return whole_answer(tokens)[:-40], True
        return whole_answer(tokens - (number == 3)), False

    with running(script) as (_, target):
        result = run_load(target, Load(streams=1, requests=5, max_tokens=5))
    assert len(result.answers) == 5
    assert len(result.errors) == 3
    assert "HTTP 503: busy" in result.errors[0]
    assert "ended early" in result.errors[1]
    assert "4 tokens by usage, 5 asked for" in result.errors[2]
    assert result.tokens == 10


def test_a_server_that_hangs_or_is_gone_is_an_error_for_each_request() -> None:
    with running(lambda number, tokens: (HEAD, False)) as (_, target):
        hung = run_load(target, Load(streams=2, requests=2, max_tokens=5, timeout=0.2))
    gone = run_load(target, Load(streams=2, requests=4, max_tokens=5))
    assert len(hung.errors) == 2
    assert gone.errors == ["connection closed without an answer"] * 4
    assert gone.figures() == {}
