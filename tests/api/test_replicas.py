"""`openllm start MODEL --replicas N`: where requests go, and what becomes of them when one engine dies."""

from __future__ import annotations

import concurrent.futures
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.serving import MODEL, Served, serving

ECHO = (MODEL, "--backend", "echo")
LONG: dict[str, Any] = {"model": MODEL, "prompt": "la la", "stream": True}
SYSTEM = " ".join(f"Rule {number}: answer in one short sentence." for number in range(40))


def status(server: Served) -> dict[str, Any]:
    with server.http() as http:
        (model,) = http.get("/api/status").json()["models"]
    assert isinstance(model, dict)
    return model


def until_all_ready(server: Served) -> None:
    deadline = time.monotonic() + 60
    while {each["state"] for each in status(server)["replicas"]} != {"ready"}:
        assert time.monotonic() < deadline, (status(server), server.log)
        time.sleep(0.05)


def series(server: Served, name: str) -> list[float]:
    """A metric of each replica, in order."""
    with server.http() as http:
        lines = http.get("/metrics").text.splitlines()
    return [float(line.split()[-1]) for line in lines if line.startswith(f"{name}{{")]


def given(server: Served) -> list[float]:
    return series(server, "openllm_replica_sequences_given_total")


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    data = str(tmp_path_factory.mktemp("data"))
    with serving(*ECHO, "--replicas", "3", "--engine-option", "delay=0.01", "--data-dir", data) as server:
        until_all_ready(server)
        yield server


def finish(server: Served, prompt: str, tokens: int) -> str:
    with server.http() as http:
        body = {"model": MODEL, "prompt": prompt, "max_tokens": tokens}
        answer = http.post("/v1/completions", json=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["choices"][0]["finish_reason"])


def stream(server: Served, tokens: int) -> list[str]:
    """The events of a stream."""
    with (
        server.http() as http,
        http.stream("POST", "/v1/completions", json={**LONG, "max_tokens": tokens}) as answer,
    ):
        return [line[6:] for line in answer.iter_lines() if line.startswith("data: ")]


def test_requests_are_spread_over_all_and_each_is_shown(three: Served) -> None:
    before = given(three)
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        assert set(pool.map(lambda _: finish(three, "Hi there", 60), range(12))) == {"length"}
    got = [after - was for after, was in zip(given(three), before, strict=True)]
    assert sum(got) == 12
    assert min(got) >= 2
    model = status(three)
    assert len({each["pid"] for each in model["replicas"]}) == 3
    assert model["resident_bytes"] == sum(each["resident_bytes"] for each in model["replicas"])
    assert series(three, "openllm_replica_ready") == [1.0] * 3


def test_a_conversation_stays_with_the_engine_that_has_read_it(three: Served) -> None:
    before = given(three)
    messages = [{"role": "system", "content": SYSTEM}]
    with three.http() as http:
        for turn in range(6):
            messages.append({"role": "user", "content": f"Question {turn}?"})
            body = {"model": MODEL, "messages": messages, "max_tokens": 8}
            answer = http.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]
            messages.append(answer)
    assert sorted(after - was for after, was in zip(given(three), before, strict=True)) == [0.0, 0.0, 6.0]


def test_a_killed_engine_takes_only_its_own_streams_and_comes_back(three: Served) -> None:
    victim = status(three)["replicas"][0]["pid"]
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        streams = [pool.submit(stream, three, 300) for _ in range(16)]
        deadline = time.monotonic() + 20
        while three.metric("openllm_sequences_running") < 16:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        lost = int(series(three, "openllm_replica_sequences")[0])
        os.kill(victim, signal.SIGSTOP)
        late = [pool.submit(finish, three, "Hi there", 5) for _ in range(6)]
        time.sleep(0.3)
        os.kill(victim, signal.SIGKILL)
        assert {each.result() for each in late} == {"length"}
        ends = [each.result()[-1] for each in streams]
    assert 0 < lost < 16
    assert [end == "[DONE]" for end in ends].count(False) == lost
    assert all("error" in json.loads(end) for end in ends if end != "[DONE]")
    until_all_ready(three)
    assert status(three)["replicas"][0]["pid"] != victim
    assert series(three, "openllm_replica_restarts_total") == [1.0, 0.0, 0.0]


def test_it_stays_ready_while_one_is_gone(three: Served) -> None:
    second = status(three)["replicas"][1]["pid"]
    os.kill(second, signal.SIGSTOP)
    os.kill(second, signal.SIGKILL)
    with three.http() as http:
        assert http.get("/readyz").status_code == 200
    assert finish(three, "Hi there", 3) == "length"
    until_all_ready(three)


def test_sigterm_drains_all_and_leaves_no_process() -> None:
    with serving(*ECHO, "--replicas", "2", "--engine-option", "delay=0.01") as server:
        until_all_ready(server)
        family = [child.pid for child in psutil.Process(server.process.pid).children()]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            streams = [pool.submit(stream, server, 100) for _ in range(4)]
            while server.metric("openllm_sequences_running") < 4:
                time.sleep(0.02)
            server.process.send_signal(signal.SIGTERM)
            assert [each.result()[-1] for each in streams] == ["[DONE]"] * 4
        assert server.process.wait(20) == 0
        assert not [pid for pid in family if psutil.pid_exists(pid)]


def test_several_models_share_memory_with_all_their_replicas(smollm2_gguf: Path, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.gguf").symlink_to(smollm2_gguf)
    options = ("--replicas", "2", "--memory", "250MB", "--engine-option", "memory=80000000")
    with serving(
        str(tmp_path / "a.gguf"), str(tmp_path / "b.gguf"), "--backend", "echo", *options
    ) as server, server.http() as http:  # fmt: skip

        def models() -> dict[str, Any]:
            return {each["name"]: each for each in http.get("/api/status").json()["models"]}

        def ask(name: str) -> None:
            body = {"model": name, "prompt": "Hi", "max_tokens": 2}
            assert http.post("/v1/completions", json=body).status_code == 200
            deadline = time.monotonic() + 20
            while {each["state"] for each in models()[name]["replicas"]} != {"ready"}:
                assert time.monotonic() < deadline, models()
                time.sleep(0.05)

        ask("a")
        time.sleep(0.5)
        while http.get("/api/status").json()["memory"]["used"] < 160_000_000:  # both were measured
            time.sleep(0.1)
        ask("b")
        assert models()["a"]["state"] == "asleep"
        assert [each["pid"] for each in models()["a"]["replicas"]] == [None, None]


def test_texts_of_one_request_are_encoded_by_both() -> None:
    with serving("all-minilm", "--backend", "echo", "--replicas", "2") as server:
        until_all_ready(server)
        with server.http() as http:

            def embed(*texts: str) -> list[dict[str, Any]]:
                body = {"model": "all-minilm", "input": texts}
                found: list[dict[str, Any]] = http.post("/v1/embeddings", json=body).json()["data"]
                return found

            answer = embed(*(f"text {number}" for number in range(2048)))
            alone = [embed(f"text {number}")[0] for number in (3, 2040)]
        assert [each["index"] for each in answer] == list(range(2048))
        assert [answer[number]["embedding"] for number in (3, 2040)] == [each["embedding"] for each in alone]
        assert min(given(server)) > 500


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--replicas", "2", "--warm", "FILE"), "--warm has one engine"),
        (("--replicas", "0"), "1 to 64"),
        (("--backend", "openvino", "--replicas", "63"), "are more than the"),
    ],
)
def test_what_cannot_be_is_refused(options: tuple[str, ...], said: str, tmp_path: Path) -> None:
    prompts = tmp_path / "warm.txt"
    prompts.write_text("You are kind.")
    chosen = [str(prompts) if option == "FILE" else option for option in options]
    server = Served((MODEL, *chosen))
    assert server.process.wait(60) == 2
    server.join()
    assert said in server.log
    assert "hint: " in server.log


def test_a_real_engine_answers_right_from_both() -> None:
    with serving(MODEL, "--backend", "openvino", "--replicas", "2", "--context", "1024") as server:
        until_all_ready(server)

        def ask(_: int) -> str:
            messages = [{"role": "user", "content": "What is the capital of France?"}]
            body = {"model": MODEL, "messages": messages, "max_tokens": 8, "temperature": 0}
            with server.http() as http:
                answer: httpx.Response = http.post("/v1/chat/completions", json=body)
            return str(answer.json()["choices"][0]["message"]["content"])

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            answers = set(pool.map(ask, range(4)))
        assert all("Paris" in answer for answer in answers)
        assert min(given(server)) > 0
