"""What the layers around the routes promise holds for texts too: keys' limits, deadlines, batches, the queue. On the
echo encoder, whose steps take as long as is asked for."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from openllm.api.key_file import Entry, KeyFile, digest
from tests.serving import Served, serving

MODEL = "all-minilm"
TEXT = "hello world"  # 4 tokens, special ones included


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """20 ms a text, two seconds a request, 100 texts may wait."""
    keys = KeyFile(tmp_path_factory.mktemp("keys") / "keys.toml")
    keys.add(Entry("plain", digest("plain")))
    keys.add(Entry("short", digest("short"), tokens_per_minute=100))
    with serving(
        MODEL, "--backend", "echo", "--concurrency", "1", "--engine-option", "delay=0.02", "--request-timeout", "2",
        "--queue", "100", "--api-key-file", str(keys.path), "--data-dir", str(tmp_path_factory.mktemp("data")),
    ) as server:  # fmt: skip
        server.until_ready()
        yield server


def post(server: Served, texts: Any, key: str = "plain", **headers: str) -> httpx.Response:
    return httpx.post(
        f"{server.url}/v1/embeddings",
        json={"model": MODEL, "input": texts},
        headers={"Authorization": f"Bearer {key}", **headers},
        timeout=30,
    )


def test_texts_count_against_the_tokens_of_a_key(encoder: Served) -> None:
    answer = post(encoder, [TEXT] * 10, "short")
    assert answer.json()["usage"] == {"prompt_tokens": 40, "total_tokens": 40}
    after = post(encoder, TEXT, "short")
    assert 54 <= int(after.headers["x-ratelimit-remaining-tokens"]) <= 60
    refused = post(encoder, [TEXT] * 20, "short")
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert int(refused.headers["retry-after"]) > 0


def test_texts_that_take_too_long_are_a_504_and_leave_the_engine(encoder: Served) -> None:
    begun = time.monotonic()
    answer = post(encoder, [TEXT] * 100, **{"x-request-timeout": "0.5"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert 0.5 <= time.monotonic() - begun < 1.0
    assert post(encoder, TEXT).status_code == 200
    assert time.monotonic() - begun < 1.5  # the hundred would take 2 s


def test_more_texts_than_may_wait_are_refused(encoder: Served) -> None:
    answer = post(encoder, [TEXT] * 106)  # 100, and the 5 that the runner would take
    assert answer.status_code == 400, "it will never be different"
    assert "--queue" in answer.json()["error"]["message"]


def test_a_batch_of_embeddings(encoder: Served, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    lines = [
        {
            "custom_id": str(count), "method": "POST", "url": "/v1/embeddings",
            "body": {"model": MODEL, "input": [TEXT] * count},
        }
        for count in (1, 3)
    ]  # fmt: skip
    file.write_text("\n".join(map(json.dumps, lines)))
    with openai.OpenAI(base_url=f"{encoder.url}/v1", api_key="plain", max_retries=0) as client:
        sent = client.files.create(file=file, purpose="batch")
        batch = client.batches.create(
            input_file_id=sent.id, endpoint="/v1/embeddings", completion_window="24h"
        )
        deadline = time.monotonic() + 30
        while batch.status != "completed":
            assert time.monotonic() < deadline, batch
            time.sleep(0.05)
            batch = client.batches.retrieve(batch.id)
        assert batch.output_file_id is not None
        output = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    found = {each["custom_id"]: len(each["response"]["body"]["data"]) for each in output}
    assert found == {"1": 1, "3": 3}
    assert batch.usage is not None
    assert (batch.usage.input_tokens, batch.usage.output_tokens) == (16, 0)
