"""From the command to the first token: a streaming request, sent as soon as the port accepts, until one is
answered."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass

from benchmarks.answer import Answer, AnswerReader
from benchmarks.load import Target
from benchmarks.process import Server

PAUSE = 0.01
TOKENS = 16


@dataclass(frozen=True)
class Cold:
    """Seconds since the command was given. ``attempts`` counts requests: one is enough if the server holds
    it."""

    port_open: float
    first_token: float
    attempts: int


def await_first_token(server: Server, target: Target, deadline: float) -> Cold:
    """Block until a request is answered in full. Raises ``ServerFailedError`` when ``deadline`` seconds have
    passed, when the server ended, or when an answer came and is wrong."""
    request = target.request(0, TOKENS)
    give_up = server.started + deadline
    opened: float | None = None
    attempts = 0
    last = "nothing"
    while time.perf_counter() < give_up:
        server.check_alive()
        try:
            with socket.create_connection(
                (target.host, target.port), timeout=give_up - time.perf_counter()
            ) as link:
                opened = opened or time.perf_counter()
                attempts += 1
                answer = _ask(link, request)
        except OSError as fault:
            last = str(fault)
            time.sleep(PAUSE)
            continue
        if answer.error is None:
            return Cold(opened - server.started, answer.times[0] - server.started, attempts)
        if answer.times:
            raise server.failure(f"the first answer is wrong: {answer.error}")
        last = answer.error
        time.sleep(PAUSE)
    raise server.failure(f"no first token within {deadline:.0f} s; last: {last}")


def _ask(link: socket.socket, request: bytes) -> Answer:
    """Send, and read until the stream is done or cut. Not-ready answers (503 and the like) come back as
    errors."""
    reader = AnswerReader(time.perf_counter())
    link.sendall(request)
    while not reader.done:
        data = link.recv(65536)
        if not data:
            break
        try:
            reader.feed(time.perf_counter(), data)
        except (ValueError, KeyError, TypeError) as fault:
            raise OSError(f"unreadable answer: {fault}") from fault
        if reader.head is not None and reader.head.status != 200:
            break
    return reader.check(TOKENS)
