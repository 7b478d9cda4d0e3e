"""Responses and Messages while the engine loads, when a client leaves, and when the engine ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.api.sse import events
from tests.serving import MODEL, Served, serving

LONG = "word " * 4000
RESPONSE: dict[str, Any] = {"model": MODEL, "input": "Hi", "instructions": LONG}
MESSAGE: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": 4000,
    "system": LONG,
    "messages": [{"role": "user", "content": "Hi"}],
}
PATHS = {"/v1/responses": RESPONSE, "/v1/messages": MESSAGE}


@pytest.fixture(scope="module")
def slow() -> Iterator[Served]:
    """20 ms a step: these answers take over a minute."""
    with serving(MODEL, "--backend", "echo", "--engine-option", "delay=0.02") as server:
        server.until_ready()
        yield server


def until_idle(served: Served) -> None:
    deadline = time.monotonic() + 10
    while served.metric("openllm_sequences_running") + served.metric("openllm_sequences_waiting"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("path", PATHS)
def test_a_client_that_goes_stops_the_answer(slow: Served, path: str) -> None:
    with slow.http() as http:
        with http.stream("POST", path, json={**PATHS[path], "stream": True}) as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith("event: ")
            assert slow.metric("openllm_sequences_running") == 1
        until_idle(slow)
        with pytest.raises(httpx.ReadTimeout):
            http.post(path, json=PATHS[path], timeout=0.5)
        until_idle(slow)


def test_a_background_response_runs_until_it_is_cancelled(slow: Served) -> None:
    client = slow.client
    response = client.responses.create(**RESPONSE, background=True)
    assert response.status == "queued"
    deadline = time.monotonic() + 10
    while client.responses.retrieve(response.id).status == "queued":
        assert time.monotonic() < deadline
    assert client.responses.retrieve(response.id).status == "in_progress"
    with pytest.raises(openai.BadRequestError, match="in_progress"):
        client.responses.create(model=MODEL, input="Go on", previous_response_id=response.id)
    for _ in range(2):
        assert client.responses.cancel(response.id).status == "cancelled"
    assert client.responses.retrieve(response.id).status == "cancelled"
    until_idle(slow)


def test_a_background_stream_outlives_its_client_and_ends_with_a_cancel(slow: Served) -> None:
    client = slow.client
    stream = client.responses.create(**RESPONSE, background=True, stream=True)
    told = [next(stream) for _ in range(8)]
    stream.close()
    response_id = told[0].response.id
    rest = client.responses.retrieve(response_id, stream=True, starting_after=7)
    assert next(iter(rest)).sequence_number == 8
    client.responses.cancel(response_id)
    assert all(event.type == "response.output_text.delta" for event in rest)
    until_idle(slow)


def test_forgetting_a_background_response_stops_it(slow: Served) -> None:
    client = slow.client
    response = client.responses.create(**RESPONSE, background=True)
    client.responses.delete(response.id)
    until_idle(slow)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


def test_an_engine_that_ends_fails_what_was_streaming(slow: Served) -> None:
    background = slow.client.responses.create(**RESPONSE, background=True)
    with (
        anthropic.Anthropic(base_url=slow.url, api_key="none", max_retries=0) as claude,
        claude.messages.create(**MESSAGE, stream=True) as messages,
    ):
        stream = slow.client.responses.create(**RESPONSE, stream=True)
        assert next(iter(stream)).type == "response.created"
        assert next(iter(messages)).type == "message_start"
        slow.runner().kill()
        told = list(stream)
        with pytest.raises(anthropic.APIStatusError, match="ended"):
            list(messages)
    assert [event.type for event in told[-2:]] == ["error", "response.failed"]
    failed = slow.client.responses.retrieve(told[-1].response.id)
    assert (failed.status, failed.error.code if failed.error else None) == ("failed", "server_error")
    assert failed.output_text.startswith("system")
    assert slow.client.responses.retrieve(background.id).status == "failed"
    slow.until_ready()


def test_a_server_that_stops_does_not_wait_for_the_background() -> None:
    with serving(MODEL, "--backend", "echo", "--engine-option", "delay=0.02") as server:
        server.until_ready()
        server.client.responses.create(**RESPONSE, background=True)
        while not server.metric("openllm_sequences_running"):
            time.sleep(0.05)
        begun = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begun < 10
        assert "Traceback" not in server.log
        assert "never retrieved" not in server.log


def test_streams_that_wait_for_the_engine_are_kept_alive_and_answered() -> None:
    with serving(MODEL, "--backend", "echo", "--engine-option", "load=6") as server, server.http() as http:
        background = server.client.responses.create(model=MODEL, input="Hi", background=True)
        assert background.status == "queued"
        begun = time.monotonic()
        message = {**MESSAGE, "max_tokens": 3, "stream": True}
        with http.stream("POST", "/v1/messages", json=message) as answer:
            body = answer.iter_bytes()
            first = next(body)
            assert time.monotonic() - begun < 3  # it is told at once that it is held
            told = events(first + b"".join(body))
        kinds = [event["type"] for event in told]
        assert kinds[0] == "ping"
        assert kinds[kinds.count("ping")] == "message_start"
        assert kinds[-1] == "message_stop"
        until_idle(server)
        assert server.client.responses.retrieve(background.id).status == "completed"


def test_a_response_that_waits_for_the_engine_gets_comments() -> None:
    with serving(MODEL, "--backend", "echo", "--engine-option", "load=2") as server, ExitStack() as open_:
        with server.still_loading():
            http = open_.enter_context(server.http())
            body = {"model": MODEL, "input": "Hi", "stream": True}
            answer = open_.enter_context(http.stream("POST", "/v1/responses", json=body))
            lines = answer.iter_lines()
            assert next(lines).startswith(": ")
        assert "event: response.completed" in list(lines)
