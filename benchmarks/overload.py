"""What a good client notices of bad times, by hand: ``python -m benchmarks.overload [--seconds 60] [--slow 1000]``.

An echo engine of 20 ms a step is given ten times what it can do, then a crowd of clients that write and read as slowly
as they may; with ``--hostile 4`` instead, so many clients that send large and broken bodies without a pause. A good
client streams beside them, and says how long its tokens were apart.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import resource
import statistics
import subprocess
import sys
import time

import httpx

from benchmarks.hostile import Attackers

_LISTENING = re.compile(r"listening on (http://\S+)")
_MODEL = "smollm2"
_WIDTH = 16
_QUEUE = 16
_ANSWER_TOKENS = 100  # 2 s
_OVERLOAD = 10


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.overload")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--slow", type=int, default=1000, help="slow readers, and as many slow writers")
    parser.add_argument("--hostile", type=int, default=0, help="clients that send hostile bodies")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    argv = [sys.executable, "-m", "openllm", "start", _MODEL, "--backend", "echo", "--port", "0"]
    argv += ["--engine-option", "delay=0.02", "--concurrency", str(_WIDTH), "--queue", str(_QUEUE)]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as server:
        try:
            url = _url(server)
            if options.hostile:
                asyncio.run(_hostile(url, options.seconds, options.hostile, server.pid))
            else:
                asyncio.run(_run(url, options.seconds, options.slow, server.pid))
        finally:
            server.terminate()


def _url(server: subprocess.Popen[str]) -> str:
    assert server.stderr is not None
    url = ""
    for line in server.stderr:
        found = _LISTENING.search(line)
        url = found[1] if found else url
        if line.startswith("ready"):
            return url
    raise SystemExit("the server did not start")


async def _run(url: str, seconds: float, slow: int, pid: int) -> None:
    async with httpx.AsyncClient(
        base_url=url, timeout=120, limits=httpx.Limits(max_connections=None)
    ) as http:
        _say("alone", await _gaps(http, 10))
        over = asyncio.create_task(_overload(http, seconds))
        await asyncio.sleep(1)
        _say("beside the overload", await _gaps(http, seconds - 1))
        await over
        # It begins before the crowd: the crowd's own streams fill the queue.
        good = asyncio.create_task(_gaps(http, 1, tokens=1500))
        await asyncio.sleep(1)
        crowd = asyncio.create_task(_crowd(url, slow))
        _say(f"beside {slow} slow readers and {slow} slow writers", await good)
        print(f"front: {_resident(pid)} MB resident")
        crowd.cancel()
        await asyncio.wait([crowd])


async def _hostile(url: str, seconds: float, count: int, pid: int) -> None:
    host, port = url.removeprefix("http://").split(":")
    async with httpx.AsyncClient(base_url=url, timeout=120) as http:
        _say("alone", await _gaps(http, seconds))
        with Attackers(host, int(port), count) as attackers:
            _say(f"beside {count} that send hostile bodies", await _gaps(http, seconds))
        print("hostile bodies, by status:", dict(sorted(attackers.statuses.items())))
        print(f"front: {_resident(pid)} MB resident")


async def _gaps(http: httpx.AsyncClient, seconds: float, tokens: int = _ANSWER_TOKENS) -> list[float]:
    """Seconds between the tokens of answers that are asked for one after the other, for so long."""
    gaps: list[float] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        last = None
        async with http.stream("POST", "/v1/completions", json=_body(tokens, stream=True)) as answer:
            if answer.status_code == 429:
                await asyncio.sleep(0.1)
                continue
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    now = time.monotonic()
                    if last is not None:
                        gaps.append(now - last)
                    last = now
    return gaps


async def _overload(http: httpx.AsyncClient, seconds: float) -> None:
    """Ask ten times as often as the engine can answer, whatever comes back."""
    rate = _OVERLOAD * _WIDTH / (_ANSWER_TOKENS * 0.02)
    done: list[tuple[int, float]] = []

    async def ask() -> None:
        begun = time.monotonic()
        answer = await http.post("/v1/completions", json=_body(_ANSWER_TOKENS))
        done.append((answer.status_code, time.monotonic() - begun))

    begun = time.monotonic()
    tasks = []
    while time.monotonic() - begun < seconds:
        tasks.append(asyncio.create_task(ask()))
        await asyncio.sleep(max(0.0, begun + len(tasks) / rate - time.monotonic()))
    await asyncio.gather(*tasks)
    for status in sorted({status for status, _ in done}):
        times = [took for found, took in done if found == status]
        print(f"overload: {len(times)} x {status}, seconds {_quantiles(times)}")


async def _crowd(url: str, count: int) -> None:
    """Connections that write a byte a second of a body, and such that read nothing of a stream."""
    host, port = url.removeprefix("http://").split(":")
    head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
    body = json.dumps(_body(2000, stream=True))
    writers = []
    held = []
    try:
        for _ in range(count):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(f"{head}1000000\r\n\r\n".encode())
            writers.append(writer)
            reader, idle = await asyncio.open_connection(host, int(port), limit=1024)
            idle.write(f"{head}{len(body)}\r\n\r\n{body}".encode())
            held.append((reader, idle))
        while True:
            for writer in writers:
                writer.write(b" ")
            await asyncio.sleep(1)
    finally:
        for writer in (*writers, *(idle for _, idle in held)):
            writer.close()


def _body(tokens: int, *, stream: bool = False) -> dict[str, object]:
    return {"model": _MODEL, "prompt": "la la", "max_tokens": tokens, "stream": stream}


def _say(what: str, gaps: list[float]) -> None:
    print(f"a good client {what}: {len(gaps)} tokens, seconds apart {_quantiles(gaps)}", flush=True)


def _quantiles(values: list[float]) -> str:
    if len(values) < 2:
        return str(values)
    cuts = statistics.quantiles(values, n=100)
    return f"p50 {cuts[49]:.3f}, p99 {cuts[98]:.3f}, most {max(values):.3f}"


def _resident(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() // 1_000_000


if __name__ == "__main__":
    main()
