"""A server whose engine goes to sleep, from outside: probes, requests that wake it, what clients are told meanwhile."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import psutil
import pytest

from tests.serving import MODEL, Served, serving

_FRONT_MB = 120
ASK = {"model": MODEL, "prompt": "la la", "max_tokens": 2}
CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
ASKS = {
    "/v1/completions": ASK,
    "/v1/chat/completions": CHAT,
    "/v1/responses": {"model": MODEL, "input": "Hi", "max_output_tokens": 2},
    "/v1/messages": CHAT,
}


@pytest.fixture(scope="module")
def client(sleeper: Served) -> Iterator[openai.OpenAI]:
    with sleeper.client as made:
        yield made


def complete(client: openai.OpenAI, **more: object) -> str | None:
    """Why a short answer ended."""
    answer = client.completions.create(model=MODEL, prompt="la la", max_tokens=2, extra_body=more)
    return answer.choices[0].finish_reason


@pytest.fixture(scope="module")
def sleeper() -> Iterator[Served]:
    """Loads for 2 s, and sleeps half a second after the last request."""
    echo = ("--backend", "echo", "--engine-option", "load=2")
    with serving(MODEL, *echo, "--idle-timeout", "500ms", "--start-asleep") as server:
        yield server


def status(server: Served) -> dict[str, object]:
    with server.http() as http:
        (model,) = http.get("/api/status").json()["models"]
    assert isinstance(model, dict)
    return model


def until(server: Served, state: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while status(server)["state"] != state:
        assert time.monotonic() < deadline, server.log
        time.sleep(0.05)


def test_asleep_it_is_ready_and_neither_probes_nor_scrapes_wake_it(sleeper: Served) -> None:
    until(sleeper, "asleep")
    wakes = sleeper.metric("openllm_wakes_total")
    with sleeper.http() as http:
        for path in ("/livez", "/readyz", "/metrics", "/v1/models", "/api/status"):
            assert http.get(path).status_code == 200
        ready = http.get("/readyz").json()
    assert (ready["status"], ready["state"]) == ("ready", "asleep")
    now = status(sleeper)
    assert (now["state"], now["pid"], now["resident_bytes"]) == ("asleep", None, None)
    assert sleeper.metric("openllm_wakes_total") == wakes
    assert sleeper.metric("openllm_asleep_seconds_total") > 0


def test_a_request_wakes_it_and_it_sleeps_again(sleeper: Served, client: openai.OpenAI) -> None:
    until(sleeper, "asleep")
    wakes = sleeper.metric("openllm_wakes_total")
    answer = client.completions.create(
        model=MODEL, prompt="Hi there", max_tokens=2, extra_body={"keep_alive": "1h"}
    )
    assert answer.choices[0].text == "Hi there"
    now = status(sleeper)
    assert now["state"] == "ready"
    assert isinstance(now["resident_bytes"], int)
    assert now["resident_bytes"] > 1_000_000
    assert sleeper.metric("openllm_wakes_total") == wakes + 1
    assert sleeper.metric("openllm_wake_seconds_count") == wakes + 1
    runner = sleeper.runner().pid
    complete(client, keep_alive=0)
    until(sleeper, "asleep")
    assert not psutil.pid_exists(runner)
    assert psutil.Process(sleeper.process.pid).memory_info().rss < _FRONT_MB * 1_000_000


def test_requests_that_come_together_start_one_engine(sleeper: Served) -> None:
    until(sleeper, "asleep")
    wakes = sleeper.metric("openllm_wakes_total")
    url = sleeper.url
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(
            pool.map(lambda _: httpx.post(f"{url}/v1/completions", json=ASK, timeout=30), range(20))
        )
    assert [answer.status_code for answer in answers] == [200] * 20
    assert sleeper.metric("openllm_wakes_total") == wakes + 1


def test_tokens_are_counted_without_waking_it(sleeper: Served) -> None:
    until(sleeper, "asleep")
    with sleeper.http() as http:
        assert http.post("/tokenize", json={"prompt": "Hi there"}).json()["count"] == 2
    assert status(sleeper)["state"] == "asleep"


def test_a_deadline_that_ends_while_it_wakes(sleeper: Served) -> None:
    until(sleeper, "asleep")
    with sleeper.http() as http:
        late = http.post("/v1/completions", json=ASK, headers={"x-request-timeout": "0.3"})
    assert late.status_code == 504
    assert late.json()["error"]["code"] == "deadline_exceeded"
    until(sleeper, "asleep")


def test_a_stream_is_told_what_it_waits_for(sleeper: Served) -> None:
    sleeper.client.completions.create(
        model=MODEL, prompt="Hi", max_tokens=1
    )  # from now on an earlier start is known
    for body, headers in (({"progress": True}, {}), ({}, {"x-openllm-progress": "1"})):
        until(sleeper, "asleep")
        told: list[Any] = []
        chunks: list[Any] = []
        request = {**ASK, "stream": True, **body}
        with (
            sleeper.http() as http,
            http.stream("POST", "/v1/completions", json=request, headers=headers) as answer,
        ):
            kind = ""
            for line in answer.iter_lines():
                kind = line.removeprefix("event: ") if line.startswith("event: ") else kind
                if line.startswith("data: {"):
                    assert not (kind and chunks), "progress after the first chunk"
                    (told if kind else chunks).append(json.loads(line[6:]))
                    kind = ""
        assert len(told) >= 2
        assert told[-1]["state"] == "starting"
        assert told[-1]["doing"] == "loading the echo engine"
        assert 0 < told[-1]["fraction"] < 1
        assert 0 <= told[-1]["eta_seconds"] < 60  # the median of earlier starts here, of a load of 2 s
        assert chunks[-1]["choices"][0]["finish_reason"] == "length"


def test_a_client_that_knows_nothing_of_progress_reads_over_it(
    sleeper: Served, client: openai.OpenAI
) -> None:
    until(sleeper, "asleep")
    chunks = list(
        client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "Hi"}],
            max_tokens=2,
            stream=True,
            extra_body={"progress": True},
        )
    )
    assert [len(chunk.choices) for chunk in chunks if not chunk.choices]
    assert chunks[-1].choices[0].finish_reason == "length"


def test_an_engine_that_dies_while_it_wakes_is_started_again(sleeper: Served, client: openai.OpenAI) -> None:
    until(sleeper, "asleep")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(complete, client)
        deadline = time.monotonic() + 20
        while status(sleeper)["pid"] is None:  # it is known once it is forked
            assert time.monotonic() < deadline, sleeper.log
            time.sleep(0.02)
        sleeper.runner().kill()
        assert answer.result(timeout=20) == "length"


def test_a_client_that_leaves_while_it_wakes_leaves_nothing(sleeper: Served) -> None:
    until(sleeper, "asleep")
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{sleeper.url}/v1/completions", json=ASK, timeout=0.5)
    deadline = time.monotonic() + 10
    while sleeper.metric("openllm_sequences_waiting"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    until(sleeper, "asleep")


@pytest.mark.parametrize("path", ASKS)
@pytest.mark.parametrize("value", ["soon", True, [], "5 minutes", "1" * 33, 10**400])
def test_a_keep_alive_that_is_no_duration(sleeper: Served, path: str, value: object) -> None:
    with sleeper.http() as http:
        answer = http.post(path, json={**ASKS[path], "keep_alive": value})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert "keep_alive" in error["message"]
    assert error.get("param", "keep_alive") == "keep_alive"  # Anthropic's errors have none


@pytest.mark.parametrize("path", ASKS)
def test_every_api_says_how_long_the_model_stays_loaded(sleeper: Served, path: str) -> None:
    with sleeper.http() as http:
        for value, seconds in (("1h30m", 5400), (90, 90), (-1, None)):
            assert http.post(path, json={**ASKS[path], "keep_alive": value}).status_code == 200
            assert status(sleeper)["keep_alive_seconds"] == seconds
        assert http.post(path, json={**ASKS[path], "keep_alive": 0}).status_code == 200
    until(sleeper, "asleep")


def test_a_request_says_how_long_it_stays_loaded(sleeper: Served, client: openai.OpenAI) -> None:
    complete(client, keep_alive="1h")
    assert status(sleeper)["keep_alive_seconds"] == 3600
    complete(client, keep_alive=-1)
    assert status(sleeper)["keep_alive_seconds"] is None
    time.sleep(1)
    assert status(sleeper)["state"] == "ready"
    complete(client, keep_alive=0)
    until(sleeper, "asleep")
    assert status(sleeper)["keep_alive_seconds"] == 0.5


def test_a_thousand_streams_that_wait_are_all_answered_and_leave_nothing(sleeper: Served) -> None:
    front = psutil.Process(sleeper.process.pid)
    host, port = sleeper.url.removeprefix("http://").split(":")
    body = json.dumps({**ASK, "stream": True}).encode()
    head = (
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()

    async def stream() -> bytes:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head + body)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    async def crowd() -> list[bytes]:
        return await asyncio.gather(*(stream() for _ in range(1000)))

    sizes = []
    for _ in range(2):  # what the first crowd leaves is what Python keeps for the next
        until(sleeper, "asleep")
        answers = asyncio.run(crowd())
        assert all(b"data: [DONE]" in answer for answer in answers)
        until(sleeper, "asleep")
        time.sleep(0.5)
        sizes.append((front.num_fds(), front.memory_info().rss))
    assert sizes[1][0] <= sizes[0][0] + 2
    assert sizes[1][1] < sizes[0][1] * 1.1
    assert sizes[1][1] < _FRONT_MB * 1_000_000


def test_sigterm_while_it_wakes_lets_it_answer() -> None:
    with serving(MODEL, "--backend", "echo", "--engine-option", "load=1.5", "--start-asleep") as server:
        with concurrent.futures.ThreadPoolExecutor(1) as pool, server.client as client:
            answer = pool.submit(complete, client)
            until(server, "starting")
            server.process.send_signal(signal.SIGTERM)
            assert answer.result(timeout=20) == "length"
        assert server.process.wait(10) == 0


def test_an_engine_that_cannot_start_is_told_to_whoever_asked_and_the_server_stays() -> None:
    with serving(MODEL, "--backend", "echo", "--engine-option", "delay=much", "--start-asleep") as server:
        with server.client as client:
            for _ in range(2):
                with pytest.raises(openai.APIStatusError, match="delay"):
                    complete(client)
        until(server, "asleep")
        with server.http() as http:
            assert http.get("/livez").status_code == 200


@pytest.mark.timeout(180)
def test_a_real_engine_wakes() -> None:
    with serving(MODEL, "--idle-timeout", "1s", "--start-asleep") as server, server.client as client:
        for _ in range(2):
            chat = client.chat.completions.create(
                model=MODEL,
                messages=[{"role": "user", "content": "What is the capital of France?"}],
                temperature=0,
                max_tokens=12,
            )
            assert "Paris" in (chat.choices[0].message.content or "")
            until(server, "asleep")
        assert server.metric("openllm_wakes_total") == 2
        assert psutil.Process(server.process.pid).memory_info().rss < _FRONT_MB * 1_000_000
