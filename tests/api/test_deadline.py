"""Requests that may take so long and no longer: held, waiting, or answering."""

from __future__ import annotations

import concurrent.futures
import json
import time
from collections.abc import Iterator

import httpx
import openai
import pytest

from tests.serving import MODEL, Served, serving

LONG = {"model": MODEL, "prompt": "la la", "max_tokens": 2000}


@pytest.fixture(scope="module")
def limited() -> Iterator[Served]:
    """20 ms a step, one sequence at a time, two seconds a request."""
    options = ("--engine-option", "delay=0.02", "--concurrency", "1", "--request-timeout", "2")
    with serving(MODEL, "--backend", "echo", *options) as server:
        server.until_ready()
        yield server


def post(server: Served, stream: bool, timeout: str | None = None) -> tuple[httpx.Response, float]:
    headers = {} if timeout is None else {"x-request-timeout": timeout}
    begun = time.monotonic()
    answer = httpx.post(
        f"{server.url}/v1/completions", json={**LONG, "stream": stream}, headers=headers, timeout=20
    )
    return answer, time.monotonic() - begun


@pytest.mark.parametrize(("timeout", "seconds"), [(None, 2.0), ("0.5", 0.5), ("100", 2.0)])
def test_a_whole_answer_is_a_504_at_the_lesser_of_both_limits(
    limited: Served, timeout: str | None, seconds: float
) -> None:
    answer, took = post(limited, False, timeout)
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert seconds <= took < seconds + 0.5
    assert limited.metric("openllm_sequences_running") == 0


def test_a_stream_that_began_ends_with_an_error_event(limited: Served) -> None:
    answer, _ = post(limited, True, "0.5")
    assert answer.status_code == 200
    last = answer.text.strip().rpartition("\n\n")[2]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "deadline_exceeded"


def test_one_that_waits_in_the_queue_is_a_504(limited: Served) -> None:
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        before = [
            pool.submit(post, limited, False) for _ in range(2)
        ]  # one runs, one is at the engine to spare
        time.sleep(0.5)
        answer, _ = post(limited, True, "0.3")
        assert answer.status_code == 504
        assert [each.result()[0].status_code for each in before] == [504, 504]


def test_openais_client_gets_its_exception(limited: Served) -> None:
    with limited.client as client, pytest.raises(openai.APIStatusError) as caught:
        client.completions.create(
            model=MODEL, prompt="la la", max_tokens=2000, extra_headers={"x-request-timeout": "0.2"}
        )
    assert caught.value.status_code == 504


@pytest.mark.parametrize("timeout", ["0", "-1", "nan", "inf", "soon", "1e999", ""])
def test_a_header_that_is_no_time_is_a_400(limited: Served, timeout: str) -> None:
    answer, _ = post(limited, False, timeout)
    assert answer.status_code == 400
    assert "x-request-timeout" in answer.json()["error"]["message"]


def test_one_that_is_held_while_the_engine_loads_is_a_504() -> None:
    with serving(MODEL, "--backend", "echo", "--engine-option", "load=20") as server:
        answer, took = post(server, False, "0.5")
        assert answer.status_code == 504
        assert took < 15
