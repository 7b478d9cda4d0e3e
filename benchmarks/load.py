"""The load generator: N closed-loop streams from one process that shares the machine with the server.

It is kept light on the CPU: while the load runs, bytes are only put away with their times. They are parsed
and checked afterwards.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import uvloop

from benchmarks.answer import Answer, Read, read_answer
from benchmarks.prompts import prompt, request
from benchmarks.sse import HEAD_END, LAST_CHUNK, Head, parse_head
from benchmarks.stats import percentile


@dataclass(frozen=True)
class Target:
    """Where to send: an OpenAI-compatible server and the model name it answers to."""

    host: str
    port: int
    model: str

    def request(self, number: int, max_tokens: int) -> bytes:
        return request(self.model, prompt(number), max_tokens, f"{self.host}:{self.port}")


@dataclass(frozen=True)
class Load:
    """``requests`` in all, ``streams`` at a time, each answer ``max_tokens`` long. Prompts count from
    ``first``."""

    streams: int
    requests: int
    max_tokens: int
    first: int = 0
    timeout: float = 300.0


@dataclass(frozen=True)
class LoadResult:
    """All answers, the wrong ones too. ``cpu_seconds`` is what making the load took of this process."""

    load: Load
    answers: list[Answer]
    cpu_seconds: float

    @property
    def seconds(self) -> float:
        """From the first request sent to the last byte received."""
        return max(answer.ended for answer in self.answers) - min(answer.sent for answer in self.answers)

    @property
    def errors(self) -> list[str]:
        return [answer.error for answer in self.answers if answer.error]

    @property
    def tokens(self) -> int:
        """Output tokens by the servers' own usage counts, right answers only."""
        return sum(answer.tokens for answer in self.answers if not answer.error)

    def figures(self) -> dict[str, float]:
        """Rates in tokens/s, times in milliseconds; empty if no answer was right."""
        right = [answer for answer in self.answers if not answer.error]
        if not right:
            return {}
        ttft = [1000 * answer.ttft for answer in right]
        gaps = [1000 * gap for answer in right for gap in answer.gaps] or [0.0]
        return {
            "tokens_per_s": self.tokens / self.seconds,
            "ttft_p50": percentile(ttft, 50),
            "ttft_p99": percentile(ttft, 99),
            "itl_p50": percentile(gaps, 50),
            "itl_p99": percentile(gaps, 99),
            "tokens_per_event": self.tokens / sum(len(answer.times) for answer in right),
            "prompt_tokens": percentile([answer.prompt_tokens for answer in right], 50),
        }


class _Connection(asyncio.Protocol):
    """One kept-alive connection. Records reads, and resolves ``_done`` at the answer's end or the
    connection's."""

    def __init__(self) -> None:
        self.reads: list[Read] = []
        self.closed = False
        self._transport: asyncio.Transport | None = None
        self._done: asyncio.Future[None] | None = None
        self._head: Head | None = None
        self._tail = b""
        self._left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have a transport's methods and not its class.
        self._transport = cast(asyncio.Transport, transport)

    async def ask(self, data: bytes) -> None:
        assert self._transport is not None
        self.reads, self._head, self._tail, self._left = [], None, b"", 0
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        await self._done

    def data_received(self, data: bytes) -> None:
        self.reads.append((time.perf_counter(), data))
        if self._ends(data):
            self._resolve()

    def _ends(self, data: bytes) -> bool:
        """A bare CR can't stand inside a JSON event, so the last chunk is known by its bytes alone."""
        if self._head is None:
            return self._ends_with_head()
        if self._head.chunked:
            self._tail = (self._tail + data)[-len(LAST_CHUNK) :]
            return self._tail == LAST_CHUNK
        self._left -= len(data)
        return self._head.length is not None and self._left <= 0

    def _ends_with_head(self) -> bool:
        head, found, body = b"".join(data for _, data in self.reads).partition(HEAD_END)
        if not found:
            return False
        self._head = parse_head(head)
        self._left = self._head.length or 0
        return self._ends(body)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._resolve()

    def _resolve(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class _Stream:
    """One client: sends its next request when the last one is answered, over one connection while that
    lives."""

    def __init__(self, target: Target, load: Load) -> None:
        self._target = target
        self._load = load
        self._connection: _Connection | None = None

    async def run(self, numbers: Iterator[int], out: list[tuple[float, list[Read]]]) -> None:
        for number in numbers:
            data = self._target.request(number, self._load.max_tokens)
            sent = time.perf_counter()
            out.append((sent, await self._exchange(data)))
        self._drop()

    async def _exchange(self, data: bytes) -> list[Read]:
        """The reads of one answer; none or too few if the server or the time limit cut it."""
        try:
            async with asyncio.timeout(self._load.timeout):
                return await self._ask(data)
        except (OSError, TimeoutError, ValueError):
            reads = self._connection.reads if self._connection else []
            self._drop()
            return reads

    async def _ask(self, data: bytes) -> list[Read]:
        """A server may close an idle connection just as it is used again: then, like any client, try a new
        one."""
        reused = self._connection is not None
        connection = self._connection or await self._connect()
        await connection.ask(data)
        if reused and connection.closed and not connection.reads:
            connection = await self._connect()
            await connection.ask(data)
        if connection.closed:
            self._connection = None
        return connection.reads

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, self._connection = await loop.create_connection(_Connection, self._target.host, self._target.port)
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


async def _run(target: Target, load: Load) -> list[tuple[float, list[Read]]]:
    numbers = iter(range(load.first, load.first + load.requests))
    exchanges: list[tuple[float, list[Read]]] = []
    async with asyncio.TaskGroup() as group:
        for _ in range(min(load.streams, load.requests)):
            group.create_task(_Stream(target, load).run(numbers, exchanges))
    return exchanges


def run_load(target: Target, load: Load) -> LoadResult:
    """Run a load to its end; blocks. Every request has its answer in the result, right or wrong."""
    gc.collect()
    gc.disable()
    try:
        before = time.process_time()
        exchanges = uvloop.run(_run(target, load))
        cpu_seconds = time.process_time() - before
    finally:
        gc.enable()
    return LoadResult(load, _read_all(exchanges, load.max_tokens), cpu_seconds)


def _read_all(exchanges: Sequence[tuple[float, list[Read]]], max_tokens: int) -> list[Answer]:
    return [read_answer(sent, reads, max_tokens) for sent, reads in exchanges]
