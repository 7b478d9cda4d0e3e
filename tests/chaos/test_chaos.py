"""A server that things happen to: short versions of ``python -m tests.chaos``."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import psutil
import pytest

from tests.chaos.faults import Fault, babble, can_babble, hang, kill
from tests.chaos.load import Ask, ask
from tests.chaos.scenarios import Ordeal, endure, hold_twice
from tests.chaos.verdict import End, judge
from tests.serving import MODEL, Served, serving

ECHO = (MODEL, "--backend", "echo")
LONG: dict[str, object] = {"model": MODEL, "prompt": "la la", "max_tokens": 8000, "stream": True}


def test_requests_survive_kills_hangs_and_garbage() -> None:
    faults: list[Fault] = [kill, hang, kill, kill]
    if can_babble():
        faults.insert(2, babble)
    with serving(
        *ECHO, "--engine-option", "delay=0.01", "--stall-timeout", "1", "--load-timeout", "10"
    ) as server:
        server.until_ready()
        endure(server, Ordeal(120, 8, faults, (0.2, 0.8)))


def test_streams_are_held_through_two_starts() -> None:
    with serving(*ECHO, "--engine-option", "load=2") as server:
        hold_twice(server, 100)


def test_a_killed_front_cuts_its_clients_off_and_another_takes_its_port_at_once() -> None:
    first = Served((*ECHO, "--engine-option", "delay=0.02"))
    first.until_ready()
    url, runner = first.url, first.runner()

    async def killed_meanwhile() -> list[End]:
        waiting = [asyncio.create_task(ask(url, Ask("/v1/completions", LONG), within=20)) for _ in range(8)]
        while await asyncio.to_thread(first.metric, "openllm_sequences_running") < 8:
            await asyncio.sleep(0.05)
        os.kill(first.process.pid, signal.SIGKILL)
        return [(await each).end for each in waiting]

    assert asyncio.run(killed_meanwhile()) == [End.CUT] * 8
    first.process.wait()
    second = Served(ECHO, port=int(url.rsplit(":", 1)[1]))
    try:
        assert second.url == url
        short = Ask("/v1/completions", {**LONG, "max_tokens": 2})
        assert asyncio.run(ask(url, short, within=60)).end is End.ANSWERED
        gone = time.monotonic() + 10
        while psutil.pid_exists(runner.pid) and runner.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < gone
            time.sleep(0.05)
    finally:
        second.process.kill()
        second.process.wait()


HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TOKEN = b'data: {"choices":[{"text":"a"}]}\n\n'
ERROR = b'data: {"error":{"message":"m","type":"t","code":"c","param":null}}\n\n'
END = b"data: [DONE]\n\n"


def chunked(*parts: bytes) -> bytes:
    return HEAD + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))


@pytest.mark.parametrize(
    ("received", "end"),
    [
        (chunked(b": quiet\n\n", TOKEN, END), End.ANSWERED),
        (chunked(TOKEN, ERROR), End.FAILED),
        (chunked(TOKEN, TOKEN), End.MALFORMED),
        (chunked(TOKEN, ERROR, END), End.MALFORMED),
        (chunked(TOKEN, END, TOKEN), End.MALFORMED),
        (chunked(TOKEN, b"data: {nonsense\n\n", END), End.MALFORMED),
        (chunked(TOKEN, b'data: {"error":"m"}\n\n'), End.MALFORMED),
        (chunked(TOKEN, END)[:-5], End.CUT),
        (chunked(TOKEN, END)[:-20], End.CUT),
        (b"HTTP/1.1 200", End.CUT),
    ],
)
def test_the_judge_of_streams_is_strict(received: bytes, end: End) -> None:
    assert judge(received, streamed=True).end is end


def test_the_judge_of_whole_answers_is_strict() -> None:
    def whole(status: int, body: bytes) -> End:
        head = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        return judge(head % (status, len(body)) + body, streamed=False).end

    choice, usage = b'{"choices":[{"text":"","finish_reason":"%s"}],', b'"usage":{"completion_tokens":%d}}'
    assert whole(200, choice % b"stop" + usage % 1) is End.ANSWERED
    assert whole(200, choice % b"stop" + usage % 0) is End.MALFORMED
    assert whole(200, choice % b"error" + usage % 1) is End.MALFORMED
    assert whole(503, ERROR[6:].strip()) is End.FAILED
    assert whole(503, b"{}") is whole(503, b'{"error":{}}') is End.MALFORMED
