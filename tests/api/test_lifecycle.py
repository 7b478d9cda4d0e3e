"""A server from its first second to its last, with real processes."""

from __future__ import annotations

import concurrent.futures
import itertools
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import openai
import psutil
import pytest

from tests.serving import MODEL, Served, serving

LONG = {"model": MODEL, "prompt": "la la", "max_tokens": 8000, "stream": True}


@pytest.fixture
def slow() -> Iterator[Served]:
    """20 ms a step: an answer of 8,000 tokens takes 160 s."""
    with serving(MODEL, "--backend", "echo", "--engine-option", "delay=0.02") as server:
        server.until_ready()
        yield server


def gone(pid: int, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


def test_a_stream_sent_while_the_engine_loads_is_answered_in_full() -> None:
    with serving(MODEL, "--backend", "echo", "--engine-option", "load=2") as server:
        with ExitStack() as open_:
            with server.still_loading():
                http = open_.enter_context(server.http())
                assert http.get("/livez").status_code == 200
                assert http.get("/readyz").status_code == 503
                body = {**LONG, "max_tokens": 5}
                answer = open_.enter_context(http.stream("POST", "/v1/completions", json=body))
                lines = answer.iter_lines()
                assert next(lines).startswith(": ")  # it is told at once that it is held
            events = [line for line in lines if line.startswith("data: ")]
        assert events[-1] == "data: [DONE]"
        assert json.loads(events[-2][6:])["choices"][0]["finish_reason"] == "length"


def test_a_silent_stream_is_kept_alive() -> None:
    with serving(MODEL, "--backend", "echo", "--engine-option", "load=12") as server, server.http() as http:
        with http.stream("POST", "/v1/completions", json={**LONG, "max_tokens": 2}) as answer:
            times = []
            for line in answer.iter_lines():
                if line:
                    times.append(time.monotonic())
        assert len(times) >= 4
        assert max(later - earlier for earlier, later in itertools.pairwise(times)) < 10


def test_a_killed_runner_under_16_streams_ends_each_with_an_error_event(slow: Served) -> None:
    url = slow.url

    def stream(_: int) -> str:
        last = ""
        with httpx.stream("POST", f"{url}/v1/completions", json=LONG, timeout=30) as answer:
            for line in answer.iter_lines():
                last = line or last
        return last

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        streams = [pool.submit(stream, number) for number in range(16)]
        while slow.metric("openllm_sequences_running") < 16:
            time.sleep(0.05)
        runner = slow.runner()
        runner.kill()
        killed = time.monotonic()
        lasts = [future.result(timeout=20) for future in streams]
    assert time.monotonic() - killed < 5
    for last in lasts:
        error = json.loads(last.removeprefix("data: "))["error"]
        assert error["code"] == "runner_died"
    answer = slow.client.completions.create(model=MODEL, prompt="Hi", max_tokens=2)
    assert answer.choices[0].finish_reason == "length"
    assert slow.runner().pid != runner.pid


def test_a_client_of_a_stream_that_failed_gets_an_exception(slow: Served) -> None:
    stream = slow.client.completions.create(model=MODEL, prompt="la la", max_tokens=8000, stream=True)
    next(iter(stream))
    slow.runner().kill()
    with pytest.raises(openai.APIError, match="ended"):
        list(stream)


def test_a_whole_answer_that_had_no_token_survives_a_killed_runner() -> None:
    with serving(MODEL, "--backend", "echo", "--engine-option", "delay=0.5") as server:
        server.until_ready()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            answer = pool.submit(
                lambda: server.client.completions.create(model=MODEL, prompt="Hi there", max_tokens=2)
            )
            while server.metric("openllm_sequences_waiting") < 1:
                time.sleep(0.01)
            server.runner().kill()
            assert answer.result(timeout=20).choices[0].text == "Hi there"
        assert server.metric("openllm_runner_restarts_total") == 1


def test_200_clients_that_leave_free_their_places(slow: Served) -> None:
    runner, front = slow.runner(), psutil.Process(slow.process.pid)
    host, port = slow.url.removeprefix("http://").split(":")
    body = json.dumps(LONG).encode()
    head = (
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()

    def flood() -> None:
        clients = [socket.create_connection((host, int(port))) for _ in range(200)]
        for client in clients:
            client.sendall(head + body)
        for client in clients:
            assert client.recv(1024).startswith(b"HTTP/1.1 200")
        for client in clients:
            client.close()
        deadline = time.monotonic() + 5
        while slow.metric("openllm_sequences_running") + slow.metric("openllm_sequences_waiting") > 0:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    flood()
    before = front.memory_info().rss, runner.memory_info().rss, front.num_fds()
    flood()
    after = front.memory_info().rss, runner.memory_info().rss, front.num_fds()
    assert after[0] < before[0] * 1.1
    assert after[1] < before[1] * 1.1
    assert after[2] <= before[2] + 2  # the connections of this test's own probes


def test_a_client_that_leaves_a_whole_answer_frees_its_place(slow: Served) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{slow.url}/v1/completions", json={**LONG, "stream": False}, timeout=0.5)
    time.sleep(0.3)
    assert slow.metric("openllm_sequences_running") == 0


def test_sigterm_drains(slow: Served) -> None:
    stream = slow.client.completions.create(model=MODEL, prompt="la la", max_tokens=60, stream=True)
    next(iter(stream))
    slow.process.send_signal(signal.SIGTERM)
    chunks = list(stream)
    assert chunks[-1].choices[0].finish_reason == "length"
    assert slow.process.wait(10) == 0
    assert "draining" in slow.log


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("template", ["--template", "--no-template"])
def test_a_signal_to_the_whole_group_drains(template: str, how: signal.Signals) -> None:
    delay = ("--engine-option", "delay=0.02")
    with serving(MODEL, "--backend", "echo", *delay, template, leads=True) as server:
        server.until_ready()
        family = psutil.Process(server.process.pid).children()
        stream = server.client.completions.create(model=MODEL, prompt="la la", max_tokens=60, stream=True)
        next(iter(stream))
        os.killpg(server.process.pid, how)
        for child in family:  # a supervisor sends it to a template too, which has a group of its own
            child.send_signal(how)
        chunks = list(stream)
        assert chunks[-1].choices[0].finish_reason == "length"
        assert server.process.wait(10) in (0, -how)
        server.join()
        assert "starting again" not in server.log
        assert not psutil.wait_procs(family, timeout=5)[1]


def test_a_signal_to_a_group_that_starts_ends_all_of_it() -> None:
    with serving(MODEL, "--backend", "echo", "--engine-option", "load=60", leads=True) as server:
        assert server.url
        family = psutil.Process(server.process.pid).children()
        os.killpg(server.process.pid, signal.SIGTERM)
        assert server.process.wait(20) in (0, -signal.SIGTERM)  # before and after it can drain
        assert not psutil.wait_procs(family, timeout=5)[1]


def test_what_does_not_end_in_the_drain_time_gets_an_error_event() -> None:
    with serving(
        MODEL, "--backend", "echo", "--engine-option", "delay=0.02", "--drain-timeout", "1"
    ) as server:
        server.until_ready()
        stream = server.client.completions.create(model=MODEL, prompt="la la", max_tokens=8000, stream=True)
        next(iter(stream))
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(openai.APIError, match="stopping"):
            list(stream)
        assert server.process.wait(10) == 0


def test_a_second_signal_stops_at_once(slow: Served) -> None:
    stream = slow.client.completions.create(model=MODEL, prompt="la la", max_tokens=8000, stream=True)
    next(iter(stream))
    runner = slow.runner().pid
    slow.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert slow.process.poll() is None
    slow.process.send_signal(signal.SIGTERM)
    slow.process.wait(3)
    assert gone(runner, 1)


def test_a_killed_front_leaves_no_runner(slow: Served) -> None:
    runner = slow.runner().pid
    os.kill(slow.process.pid, signal.SIGKILL)
    slow.process.wait()
    assert gone(runner)


def test_a_busy_port_is_one_line_and_not_exit_0(slow: Served) -> None:
    port = slow.url.rsplit(":", 1)[1]
    second = Served((MODEL, "--backend", "echo", "--port", port), port=None)
    assert second.process.wait(20) == 4
    second.join()
    assert len(second.lines) == 2, second.log
    assert f"Port {port} on 127.0.0.1 is taken" in second.lines[0]
    assert second.lines[1].startswith("hint:")


def test_a_first_start_serves_while_it_fetches_the_weights(tmp_path: Path) -> None:
    with serving(MODEL, "--backend", "echo", "--cache-dir", str(tmp_path)) as server, server.http() as http:
        assert http.get("/readyz").json()["state"] == "pulling"
        body = {**LONG, "prompt": "Hello there", "max_tokens": 2}
        with http.stream("POST", "/v1/completions", json=body) as answer:
            lines = [line for line in answer.iter_lines() if line]
        comments = [line for line in lines if line.startswith(": ")]
        texts = [json.loads(line[6:])["choices"][0]["text"] for line in lines if line.startswith("data: {")]
        assert "".join(texts) == "Hello there"
        assert all("weights" in line or "engine" in line or "check" in line for line in comments)
        assert http.get("/readyz").status_code == 200
