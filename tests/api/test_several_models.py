"""Several models on one port: which answers, which is loaded, and what makes room. The echo engine says how much memory
it holds; a real engine is swapped once."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest

from tests.serving import MODEL, Served, serving

ECHO = ("--backend", "echo", "--engine-option", "memory=80000000")
TWO = "220MB"  # of which two echo engines of about 100 MB fit
ENCODER = "all-minilm"


@pytest.fixture(scope="module")
def files(smollm2_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """One model under three names."""
    folder = tmp_path_factory.mktemp("models")
    paths = [folder / f"{name}.gguf" for name in "abc"]
    for path in paths:
        path.symlink_to(smollm2_gguf)
    return list(map(str, paths))


@pytest.fixture(scope="module")
def served(files: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    data = str(tmp_path_factory.mktemp("data"))
    slow = ("--engine-option", "load=0.3", "--engine-option", "delay=0.02")
    with serving(
        *files, ENCODER, *ECHO, *slow, "--memory", TWO, "--patience", "2s", "--data-dir", data
    ) as server:
        yield server


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[openai.OpenAI]:
    with served.client as made:
        yield made


def states(server: Served) -> dict[str, str]:
    return {name: model["state"] for name, model in status(server).items()}


def status(server: Served) -> dict[str, Any]:
    with server.http() as http:
        return {model["name"]: model for model in http.get("/api/status").json()["models"]}


def wakes(server: Served) -> dict[str, int]:
    return {name: model["wakes"] for name, model in status(server).items()}


def complete(client: openai.OpenAI, model: str, tokens: int = 2) -> str:
    return client.completions.create(model=model, prompt="Hi there", max_tokens=tokens).choices[0].text


def until_running(server: Served, count: int) -> None:
    """Until so many sequences have a token."""
    deadline = time.monotonic() + 20
    while server.metric("openllm_sequences_running") < count:
        assert time.monotonic() < deadline, (states(server), server.log)
        time.sleep(0.02)


def until(server: Served, model: str, state: str) -> None:
    deadline = time.monotonic() + 20
    while states(server)[model] != state:
        assert time.monotonic() < deadline, (states(server), server.log)
        time.sleep(0.05)


def test_all_are_listed_and_ready_before_any_is_loaded(served: Served, client: openai.OpenAI) -> None:
    with served.http() as http:
        assert http.get("/readyz").status_code == 200
    assert [model.id for model in client.models.list().data] == ["a", "b", "c", "all-minilm:l6-v2"]
    assert client.models.retrieve(ENCODER).id == ENCODER
    assert set(states(served).values()) == {"asleep"}


def test_a_name_that_no_model_has_is_a_404_that_names_some(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="'a', 'b', 'c'"):
        complete(client, "llama2")


def test_a_request_that_must_name_its_model(served: Served) -> None:
    with served.http() as http:
        answer = http.post("/tokenize", json={"prompt": "Hi there"})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "model"
        assert http.post("/tokenize", json={"prompt": "Hi there", "model": "b"}).json()["count"] == 2
    assert states(served)["b"] == "asleep"


def test_each_is_loaded_when_it_is_asked_for_and_the_oldest_makes_room(
    served: Served, client: openai.OpenAI
) -> None:
    assert complete(client, "a") == complete(client, "b") == "Hi there"
    assert (states(served)["a"], states(served)["b"]) == ("ready", "ready")
    pids = {status(served)[name]["pid"] for name in "ab"}
    assert complete(client, "a") == "Hi there"
    assert complete(client, "c") == "Hi there"
    assert states(served) == {"a": "ready", "b": "asleep", "c": "ready", "all-minilm:l6-v2": "asleep"}
    assert sum(psutil.pid_exists(pid) for pid in pids) == 1
    names = sorted(child.name() for child in psutil.Process(served.process.pid).children())
    assert names == ["openllm-runner", "openllm-runner", "openllm-templat"]  # models of one engine share it
    with served.http() as http:
        memory = http.get("/api/status").json()["memory"]
    assert 160_000_000 < memory["used"] <= memory["budget"] == 220_000_000


def test_an_embedding_model_beside_chat_models(served: Served, client: openai.OpenAI) -> None:
    assert len(client.embeddings.create(model=ENCODER, input=["one", "two"]).data) == 2
    with pytest.raises(openai.BadRequestError, match="embeddings"):
        complete(client, ENCODER)
    with pytest.raises(openai.BadRequestError, match="generates text"):
        client.embeddings.create(model="a", input="one")


def test_requests_that_come_together_load_each_model_once(served: Served) -> None:
    """A B A A C A B C at once, with room for two: three loads, which is the least there can be."""
    url = served.url
    for name in "abc":  # none is loaded
        httpx.post(f"{url}/v1/completions", json={**_body(name), "keep_alive": 0}, timeout=30)
        until(served, name, "asleep")
    before = wakes(served)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(
                lambda name: httpx.post(f"{url}/v1/completions", json=_body(name), timeout=60), "abaacabc"
            )
        )
    assert [answer.status_code for answer in answers] == [200] * 8
    after = wakes(served)
    assert [after[name] - before[name] for name in "abc"] == [1, 1, 1]


def test_no_answer_is_harmed_by_those_who_wait_and_they_are_answered_though_the_others_never_pause(
    served: Served,
) -> None:
    url = served.url

    async def run() -> list[str | None]:
        async with httpx.AsyncClient(timeout=60) as http:

            async def stream(name: str, tokens: int) -> str | None:
                last = None
                async with http.stream(
                    "POST", f"{url}/v1/completions", json=_body(name, tokens, stream=True)
                ) as answer:
                    async for line in answer.aiter_lines():
                        if line.startswith("data: {"):
                            last = json.loads(line[6:])["choices"][0]["finish_reason"]
                return last

            async def flood(name: str, enough: asyncio.Event) -> list[str | None]:
                ended = []
                while not enough.is_set():
                    ended.append(await stream(name, 40))
                return ended

            enough = asyncio.Event()  # only when the one that waits has had its answer
            floods = [asyncio.create_task(flood(name, enough)) for name in "aabb"]
            await asyncio.sleep(2)
            ended = [await stream("c", 2)]
            enough.set()
            for task in floods:
                ended += await task
            return ended

    assert set(asyncio.run(run())) == {"length"}


def test_a_client_that_leaves_while_it_waits_for_room_wakes_nothing(
    served: Served, client: openai.OpenAI
) -> None:
    complete(client, "a")
    complete(client, "b")
    before = wakes(served)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        busy = [pool.submit(complete, client, name, 250) for name in "ab"]  # 5 s
        until_running(served, 2)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{served.url}/v1/completions", json=_body("c"), timeout=0.5)
        for each in busy:
            each.result()
    time.sleep(0.3)
    assert states(served)["c"] == "asleep"
    assert wakes(served) == before


def test_a_deadline_ends_while_it_waits_for_room(served: Served, client: openai.OpenAI) -> None:
    complete(client, "a")
    complete(client, "b")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        busy = [pool.submit(complete, client, name, 75) for name in "ab"]
        until_running(served, 2)
        late = httpx.post(
            f"{served.url}/v1/completions", json=_body("c"), headers={"x-request-timeout": "0.5"}
        )
        assert late.status_code == 504
        for each in busy:
            assert each.result()


def test_a_runner_that_dies_is_another_models_gain(served: Served, client: openai.OpenAI) -> None:
    complete(client, "a")
    with served.http() as http:
        pid = next(model["pid"] for model in http.get("/api/status").json()["models"] if model["name"] == "a")
    psutil.Process(pid).kill()
    until(served, "a", "asleep")  # nothing wants it
    assert complete(client, "a") == "Hi there"


def test_a_batch_goes_to_its_model_and_wakes_it(served: Served, client: openai.OpenAI) -> None:
    lines = [
        json.dumps({"custom_id": str(n), "method": "POST", "url": "/v1/completions", "body": _body("c")})
        for n in range(5)
    ]
    file = client.files.create(file=("in.jsonl", "\n".join(lines).encode()), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/completions", completion_window="24h")
    deadline = time.monotonic() + 20
    while batch.status not in ("completed", "failed"):
        assert time.monotonic() < deadline, batch
        time.sleep(0.2)
        batch = client.batches.retrieve(batch.id)
    assert batch.request_counts is not None
    assert (batch.status, batch.request_counts.completed) == ("completed", 5)
    assert states(served)["c"] == "ready"


def test_metrics_by_model(served: Served) -> None:
    with served.http() as http:
        lines = http.get("/metrics").text.splitlines()
    assert any(line.startswith('openllm_model_wakes_total{model="a"}') for line in lines)
    total = served.metric("openllm_wakes_total")
    assert total == sum(wakes(served).values())


def test_a_pinned_model_is_loaded_at_once_and_stays(files: list[str]) -> None:
    with serving(*files, *ECHO, "--memory", TWO, "--pin", "a") as server, server.client as client:
        until(server, "a", "ready")
        pid = status(server)["a"]["pid"]
        for name in "bcb":
            assert complete(client, name) == "Hi there"
            assert status(server)["a"]["pid"] == pid
        client.completions.create(model="a", prompt="Hi", max_tokens=1, extra_body={"keep_alive": 0})
        psutil.Process(pid).kill()
        deadline = time.monotonic() + 20
        while status(server)["a"]["pid"] in (pid, None):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        until(server, "a", "ready")


def test_sigterm_with_models_loaded_and_asleep_leaves_nothing(files: list[str]) -> None:
    with serving(*files, *ECHO, "--memory", TWO) as server, server.client as client:
        for name in "ab":
            complete(client, name)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0


def test_all_serves_what_is_here(smollm2_gguf: Path) -> None:
    assert smollm2_gguf.is_file()
    with serving("--all", "--backend", "echo") as server, server.client as client:
        names = [model.id for model in client.models.list().data]
        assert "smollm2:135m-instruct" in names
        assert complete(client, MODEL) == "Hi there"


@pytest.mark.timeout(180)
def test_real_engines_make_room_for_each_other(files: list[str]) -> None:
    small = ("--context", "2048", "--concurrency", "4", "--memory", "700MiB")  # each is planned with 463 MiB
    with serving(*files[:2], *small) as server, server.client as client:
        for name in "aba":
            answer = client.chat.completions.create(
                model=name,
                messages=[{"role": "user", "content": "What is the capital of France?"}],
                temperature=0,
                max_tokens=12,
            )
            assert "Paris" in (answer.choices[0].message.content or "")
        assert server.metric("openllm_wakes_total") == 3


def _body(model: str, tokens: int = 2, *, stream: bool = False) -> dict[str, Any]:
    return {"model": model, "prompt": "Hi there", "max_tokens": tokens, "stream": stream}
