"""Batches, with OpenAI's own client, against real processes."""

from __future__ import annotations

import json
import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import openai
import pytest
from openai.types import Batch

from tests.serving import MODEL, Served, serving

CHAT: Final = "/v1/chat/completions"
TEXT: Final = "/v1/completions"
Line = dict[str, Any]


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(MODEL, "--backend", "echo", "--data-dir", str(tmp_path_factory.mktemp("data"))) as server:
        server.until_ready()
        yield server


@pytest.fixture
def client(quick: Served) -> Iterator[openai.OpenAI]:
    with quick.client as made:
        yield made


def text_line(number: int, **more: Any) -> Line:
    body = {"model": MODEL, "prompt": f"number {number}", "max_tokens": 4, **more}
    return {"custom_id": f"line-{number}", "method": "POST", "url": TEXT, "body": body}


def submit(client: openai.OpenAI, lines: list[Line] | bytes, endpoint: Any = TEXT, **more: Any) -> Batch:
    content = lines if isinstance(lines, bytes) else "\n".join(map(json.dumps, lines)).encode()
    file = client.files.create(file=("input.jsonl", content), purpose="batch")
    options: dict[str, Any] = {"completion_window": "24h", **more}
    return client.batches.create(input_file_id=file.id, endpoint=endpoint, **options)


def until(client: openai.OpenAI, batch: Batch, when: Callable[[Batch], bool], seconds: float = 60) -> Batch:
    deadline = time.monotonic() + seconds
    while not when(batch):
        assert time.monotonic() < deadline, batch
        time.sleep(0.05)
        batch = client.batches.retrieve(batch.id)
    return batch


def ended(batch: Batch) -> bool:
    return batch.status in ("completed", "failed", "expired", "cancelled")


def answers(client: openai.OpenAI, file_id: str | None) -> dict[str, Line]:
    """By custom id; each once."""
    if file_id is None:
        return {}
    lines = [json.loads(line) for line in client.files.content(file_id).text.splitlines()]
    found = {line["custom_id"]: line for line in lines}
    assert len(found) == len(lines)
    return found


def test_a_batch_of_chats(client: openai.OpenAI) -> None:
    lines: list[Line] = [
        {"custom_id": str(number), "method": "POST", "url": CHAT,
         "body": {"model": MODEL, "max_tokens": 3, "messages": [{"role": "user", "content": f"Say {number}"}]}}
        for number in range(20)
    ]  # fmt: skip
    batch = submit(client, lines, CHAT, metadata={"job": "night"})
    assert batch.status == "validating"
    assert batch.metadata == {"job": "night"}
    assert batch.expires_at == batch.created_at + 24 * 3600
    batch = until(client, batch, ended)
    assert batch.status == "completed"
    assert batch.model == MODEL
    assert batch.error_file_id is None
    stamps = (batch.created_at, batch.in_progress_at, batch.finalizing_at, batch.completed_at)
    assert sorted(stamps, key=lambda stamp: stamp or 0) == list(stamps)
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 20, "completed": 20, "failed": 0}
    found = answers(client, batch.output_file_id)
    assert found.keys() == {line["custom_id"] for line in lines}
    spent = 0
    for number in range(20):
        answer = found[str(number)]
        assert answer["error"] is None
        assert answer["id"].startswith("batch_req_")
        assert answer["response"]["status_code"] == 200
        assert answer["response"]["request_id"]
        spent += answer["response"]["body"]["usage"]["total_tokens"]
    direct = client.chat.completions.create(**lines[7]["body"])
    batched = found["7"]["response"]["body"]
    assert batched["choices"] == direct.to_dict()["choices"]
    assert batch.usage is not None
    assert batch.usage.total_tokens == spent
    assert batch.usage.output_tokens == 60
    output = client.files.retrieve(batch.output_file_id or "")
    assert (output.purpose, output.filename) == ("batch_output", f"{batch.id}_output.jsonl")
    assert output.expires_at == output.created_at + 30 * 24 * 3600


def test_requests_that_are_refused_are_in_the_error_file(client: openai.OpenAI) -> None:
    lines = [text_line(1), text_line(2, temperature=9), text_line(3, prompt=""), text_line(4)]
    batch = until(client, submit(client, lines), ended)
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 4, "completed": 2, "failed": 2}
    assert answers(client, batch.output_file_id).keys() == {"line-1", "line-4"}
    errors = answers(client, batch.error_file_id)
    assert errors.keys() == {"line-2", "line-3"}
    refused = errors["line-2"]["response"]
    assert (refused["status_code"], refused["body"]["error"]["param"]) == (400, "temperature")


def bad(change: Line) -> bytes:
    return b"\n".join(json.dumps(line).encode() for line in (text_line(1), {**text_line(2), **change}))


@pytest.mark.parametrize(
    ("content", "code", "line"),
    [
        (b"", "empty_file", None),
        (b"\n \n", "empty_file", None),
        (bad({"custom_id": "line-1"}), "duplicate_custom_id", 2),
        (bad({"custom_id": ""}), "invalid_custom_id", 2),
        (bad({"custom_id": 7}), "invalid_request", 2),
        (bad({"method": "GET"}), "invalid_method", 2),
        (bad({"url": CHAT}), "invalid_url", 2),
        (bad({"priority": 1}), "invalid_request", 2),
        (bad({"body": [1]}), "invalid_body", 2),
        (bad({"body": "x"}), "invalid_body", 2),
        (bad({"body": {"prompt": "x"}}), "invalid_body", 2),
        (bad({"body": {"model": MODEL, "prompt": "x", "stream": True}}), "invalid_body", 2),
        (bad({"body": {"model": "gpt-7", "prompt": "x"}}), "model_not_found", 2),
        (b"{\n", "invalid_json_line", 1),
        (b"\xff\xfe\n", "invalid_json_line", 1),
        (b"[" * 100_000, "invalid_request", 1),
        (b'{"custom_id":"a","method":"POST","url":"/v1/completions","body":{"model":"smollm2","prompt":\xff}}',
         "invalid_json_line", 1),
    ],
)  # fmt: skip
def test_a_bad_line_fails_the_batch(
    client: openai.OpenAI, content: bytes, code: str, line: int | None
) -> None:
    batch = until(client, submit(client, content), ended)
    assert batch.status == "failed"
    assert batch.failed_at is not None
    assert batch.errors is not None
    assert batch.errors.data is not None
    error = batch.errors.data[0]
    assert (error.code, error.line) == (code, line)
    assert batch.output_file_id is None


def test_every_bad_line_is_named(client: openai.OpenAI) -> None:
    lines = [text_line(1), {**text_line(2), "method": "PUT"}, text_line(3), {**text_line(4), "url": "/v1/x"}]
    batch = until(client, submit(client, lines), ended)
    assert batch.errors is not None
    assert [error.line for error in batch.errors.data or []] == [2, 4]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"completion_window": "1y"}, "completion_window"),
        ({"completion_window": "31d"}, "completion_window"),
        ({"endpoint": "/v1/images/generations"}, "endpoint"),
        ({"endpoint": "/v1/models"}, "endpoint"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 5}}, "output_expires_after.seconds"),
    ],
)
def test_a_batch_with_wrong_options_is_refused(
    client: openai.OpenAI, change: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        submit(client, [text_line(1)], **{"endpoint": TEXT, **change})
    assert caught.value.param == param


def test_a_batch_needs_a_file_for_batches(client: openai.OpenAI) -> None:
    file = client.files.create(file=("x", b"{}"), purpose="user_data")
    with pytest.raises(openai.BadRequestError, match="purpose 'batch'"):
        client.batches.create(input_file_id=file.id, endpoint=TEXT, completion_window="24h")
    with pytest.raises(openai.NotFoundError, match="file-none"):
        client.batches.create(input_file_id="file-none", endpoint=TEXT, completion_window="24h")
    with pytest.raises(openai.NotFoundError, match="batch_none"):
        client.batches.retrieve("batch_none")


def test_pages_of_batches(client: openai.OpenAI) -> None:
    made = [submit(client, [text_line(1)]).id for _ in range(3)]
    page = client.batches.list(limit=2)
    assert ([batch.id for batch in page.data], page.has_more) == ([made[2], made[1]], True)
    everything = [batch.id for batch in client.batches.list(limit=2)]
    assert everything[:3] == made[::-1]
    assert len(set(everything)) == len(everything)


def test_output_files_go_when_they_are_told_to(client: openai.OpenAI) -> None:
    batch = submit(client, [text_line(1)], output_expires_after={"anchor": "created_at", "seconds": 3600})
    batch = until(client, batch, ended)
    output = client.files.retrieve(batch.output_file_id or "")
    assert output.expires_at == output.created_at + 3600


@pytest.fixture
def patient(slow: Served) -> Iterator[openai.OpenAI]:
    """A client of the slow server."""
    with slow.client as made:
        yield made


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Served]:
    """Two places, and an answer of 4 tokens takes 0.1 s: 20 lines a second."""
    with serving(*slow_options(tmp_path)) as server:
        server.until_ready()
        yield server


def slow_options(folder: Path) -> tuple[str, ...]:
    options = ("--engine-option", "delay=0.025", "--concurrency", "2", "--data-dir", str(folder))
    return (MODEL, "--backend", "echo", *options)


def under_way(batch: Batch) -> bool:
    return batch.request_counts is not None and batch.request_counts.completed >= 5


def test_a_cancelled_batch_keeps_what_it_has(slow: Served, patient: openai.OpenAI) -> None:
    batch = until(patient, submit(patient, [text_line(number) for number in range(200)]), under_way)
    with pytest.raises(openai.ConflictError, match="Cancel the batch"):
        patient.files.delete(batch.input_file_id)
    assert patient.batches.cancel(batch.id).status == "cancelling"
    batch = until(patient, batch, ended, 5)
    assert batch.status == "cancelled"
    assert batch.cancelling_at is not None
    assert batch.cancelled_at is not None
    good, rest = answers(patient, batch.output_file_id), answers(patient, batch.error_file_id)
    assert len(good) >= 5
    assert good.keys() | rest.keys() == {f"line-{number}" for number in range(200)}
    assert not good.keys() & rest.keys()
    assert {line["error"]["code"] for line in rest.values()} == {"batch_cancelled"}
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 200, "completed": len(good), "failed": len(rest)}
    with pytest.raises(openai.ConflictError, match="cancelled"):
        patient.batches.cancel(batch.id)
    assert slow.metric("openllm_sequences_running") == 0
    patient.files.delete(batch.input_file_id)


def test_a_batch_ends_with_its_window(patient: openai.OpenAI) -> None:
    lines = [text_line(number) for number in range(200)]
    batch = until(patient, submit(patient, lines, completion_window="2s"), ended, 15)
    assert batch.status == "expired"
    assert batch.expired_at is not None
    good, rest = answers(patient, batch.output_file_id), answers(patient, batch.error_file_id)
    assert len(good) >= 5
    assert good.keys() | rest.keys() == {f"line-{number}" for number in range(200)}
    assert {line["error"]["code"] for line in rest.values()} == {"batch_expired"}


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM])
def test_a_batch_goes_on_after_a_restart(tmp_path: Path, sig: signal.Signals) -> None:
    lines = [text_line(number) for number in range(60)]
    options = slow_options(tmp_path)
    with serving(*options) as server, server.client as client:
        batch = until(client, submit(client, lines), under_way)
        os.kill(server.process.pid, sig)
        begun = time.monotonic()
        server.process.wait(20)
        assert time.monotonic() - begun < 5  # a drain does not wait for what can be done again
    for path in (tmp_path / "files").iterdir():  # a line that a power cut tore
        if path.name != batch.input_file_id and path.stat().st_size:
            with path.open("ab") as torn:
                torn.write(b'{"id":"batch_req_1","custom_id":"line-59","resp')
    with serving(*options) as server, server.client as client:
        kept = client.batches.retrieve(batch.id)
        assert kept.status == "in_progress"
        batch = until(client, kept, ended)
        assert batch.status == "completed"
        assert answers(client, batch.output_file_id).keys() == {line["custom_id"] for line in lines}
        assert batch.request_counts is not None
        assert batch.request_counts.to_dict() == {"total": 60, "completed": 60, "failed": 0}
        assert batch.usage is not None
        assert batch.usage.output_tokens == 240
        assert "going on with 1 unfinished batch" in server.log


def test_a_killed_runner_costs_a_batch_nothing(slow: Served, patient: openai.OpenAI) -> None:
    lines = [text_line(number) for number in range(40)]
    batch = until(patient, submit(patient, lines), under_way)
    slow.runner().kill()
    batch = until(patient, batch, ended)
    assert answers(patient, batch.output_file_id).keys() == {line["custom_id"] for line in lines}
    assert batch.error_file_id is None


def test_a_batch_begins_when_the_engine_is_ready(tmp_path: Path) -> None:
    options = ("--engine-option", "load=8", "--data-dir", str(tmp_path))
    with (
        serving(MODEL, "--backend", "echo", *options) as server,
        server.http() as http,
        server.client as client,
    ):
        batch = submit(client, [text_line(1)])
        seen = set()
        while not ended(batch):
            batch = client.batches.retrieve(batch.id)
            if http.get("/readyz").status_code == 503:
                seen.add(batch.status)
                assert batch.request_counts is not None
                assert batch.request_counts.completed == 0
        assert "in_progress" in seen
        assert batch.status == "completed"


def test_two_batches_take_turns(patient: openai.OpenAI) -> None:
    long = submit(patient, [text_line(number) for number in range(200)])
    short = submit(patient, [text_line(number) for number in range(10)])
    assert until(patient, short, ended).status == "completed"
    assert patient.batches.cancel(long.id).status == "cancelling"


def test_a_live_request_does_not_wait_behind_a_batch(patient: openai.OpenAI) -> None:

    def seconds() -> float:
        begun = time.monotonic()
        patient.completions.create(model=MODEL, prompt="one two three four", max_tokens=4)
        return time.monotonic() - begun

    alone = statistics.median(seconds() for _ in range(5))
    batch = until(patient, submit(patient, [text_line(number) for number in range(500)]), under_way)
    beside = statistics.median(seconds() for _ in range(5))
    # Both places may be taken by lines of 0.1 s each; none of the 500 that wait goes first.
    assert beside < alone + 0.25
    assert until(patient, batch, under_way).status == "in_progress"
