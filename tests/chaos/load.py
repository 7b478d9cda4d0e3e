"""Clients that ask one after the other, each request over a connection of its own."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.chaos.verdict import End, Verdict, judge
from tests.serving import MODEL

_READ_BYTES = 65_536


class Ask(NamedTuple):
    """One request. ``leaves_after`` are seconds after which its client closes the connection, None if it stays."""

    path: str
    body: dict[str, object]
    leaves_after: float | None = None

    @property
    def streamed(self) -> bool:
        return bool(self.body.get("stream"))

    def bytes(self, host: str) -> bytes:
        body = json.dumps(self.body).encode()
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


def asks(seed: int, tokens: int, *, leaving: float = 0.1) -> Iterator[Ask]:
    """Requests of all kinds, for ever: chat and completions, streamed or not, of up to ``tokens`` tokens. Of
    ``leaving`` of them the client does not wait for the end."""
    chance = random.Random(seed)
    while True:
        most = chance.randint(1, tokens)
        body: dict[str, object] = {"model": MODEL, "max_tokens": most, "stream": chance.random() < 0.6}
        words = " ".join(chance.choices(("one", "two", "three", "four"), k=chance.randint(1, 40)))
        leaves = chance.uniform(0.0, 0.5) if chance.random() < leaving else None
        if chance.random() < 0.5:
            yield Ask("/v1/completions", {**body, "prompt": words}, leaves)
        else:
            messages = [{"role": "user", "content": words}]
            yield Ask("/v1/chat/completions", {**body, "messages": messages}, leaves)


async def ask(url: str, request: Ask, *, within: float) -> Verdict:
    """Send one request and judge what comes back ``within`` so many seconds."""
    address = urlsplit(url)
    received = bytearray()
    limit = within if request.leaves_after is None else request.leaves_after
    try:
        async with asyncio.timeout(limit):
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            try:
                writer.write(request.bytes(address.netloc))
                while part := await reader.read(_READ_BYTES):
                    received += part
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
    except TimeoutError:
        if request.leaves_after is not None:
            return Verdict(End.CANCELLED)
        return Verdict(End.HUNG, detail=f"after {limit:.0f} s and {len(received)} bytes: {received[-200:]!r}")
    except OSError as error:
        return Verdict(End.CUT, detail=str(error))
    return judge(bytes(received), streamed=request.streamed)


class Tally:
    """What became of all requests."""

    def __init__(self) -> None:
        self.sent = 0
        self.ends: Counter[End] = Counter()
        self.statuses: Counter[int] = Counter()
        self.bad: list[str] = []
        self.slowest = 0.0

    def add(self, verdict: Verdict, seconds: float) -> None:
        self.ends[verdict.end] += 1
        self.statuses[verdict.status] += 1
        self.slowest = max(self.slowest, seconds)
        failed_early = verdict.end is End.FAILED and not verdict.begun
        if verdict.end in (End.MALFORMED, End.HUNG, End.CUT) or failed_early:
            self.bad.append(f"{verdict.end} (HTTP {verdict.status}): {verdict.detail}")

    def check(self) -> None:
        """Each request has ended, in a form that a client understands; none failed that had brought nothing."""
        assert not self.bad, "\n".join(self.bad[:20])
        assert self.sent == sum(self.ends.values()), self

    def __str__(self) -> str:
        ends = ", ".join(f"{count} {end}" for end, count in sorted(self.ends.items()))
        return f"{self.sent} sent: {ends}; the slowest took {self.slowest:.1f} s"


async def run(
    url: str,
    tally: Tally,
    requests: Iterator[Ask],
    *,
    clients: int,
    go_on: Callable[[], bool],
    within: float = 60.0,
) -> None:
    """So many clients, each with one request at a time, as long as ``go_on`` says so."""

    async def client() -> None:
        while go_on():
            request = next(requests)
            tally.sent += 1
            began = time.monotonic()
            verdict = await ask(url, request, within=within)
            tally.add(verdict, time.monotonic() - began)

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
