"""``openllm batch`` against a real server."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.serving import MODEL, Served, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    options = ("--data-dir", str(tmp_path_factory.mktemp("data")), "--engine-option", "delay=0.002")
    with serving(MODEL, "--backend", "echo", *options) as made:
        made.until_ready()
        yield made


def write(path: Path, count: int, **more: object) -> Path:
    body = {"model": MODEL, "prompt": "hello there", "max_tokens": 2, **more}
    lines = [
        {"custom_id": str(number), "method": "POST", "url": "/v1/completions", "body": body}
        for number in range(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_answers_go_to_stdout_and_news_to_stderr(command: Run, server: Served, tmp_path: Path) -> None:
    done = command("batch", str(write(tmp_path / "in.jsonl", 30)), "--url", server.url)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert {answer["custom_id"] for answer in answers} == set(map(str, range(30)))
    assert answers[0]["response"]["body"]["choices"][0]["text"] == "hello there"
    assert done.stderr.splitlines()[-1].endswith("completed, 30 of 30")


def test_output_and_errors_go_to_files(command: Run, server: Served, tmp_path: Path) -> None:
    path = write(tmp_path / "in.jsonl", 3)
    bad = json.loads(path.read_text().splitlines()[0])
    bad = {**bad, "custom_id": "bad", "body": {**bad["body"], "temperature": 9}}
    path.write_text(path.read_text() + json.dumps(bad) + "\n")
    output, errors = tmp_path / "out.jsonl", tmp_path / "errors.jsonl"
    done = command("batch", str(path), "--url", server.url, "--output", str(output), "--errors", str(errors))
    assert (done.returncode, done.stdout) == (1, "")
    assert "1 requests have no good answer" in done.stderr
    assert len(output.read_text().splitlines()) == 3
    assert json.loads(errors.read_text())["custom_id"] == "bad"
    again = done.stderr.partition(":")[0]
    assert again.startswith("batch_")
    output.unlink()
    command("batch", again, "--url", server.url, "--output", str(output))
    assert len(output.read_text().splitlines()) == 3


def test_what_is_wrong_with_lines_is_shown(command: Run, server: Served, tmp_path: Path) -> None:
    path = write(tmp_path / "in.jsonl", 1)
    path.write_text(path.read_text() * 2)
    done = command("batch", str(path), "--url", server.url)
    assert done.returncode == 1
    assert "line 2: The custom_id '0' was used before." in done.stderr


@pytest.mark.parametrize(
    ("content", "message"), [("", "is empty"), ("x\n", "is not a request"), (None, "read")]
)
def test_an_input_that_is_none(
    command: Run, server: Served, tmp_path: Path, content: str | None, message: str
) -> None:
    path = tmp_path / "in.jsonl"
    if content is not None:
        path.write_text(content)
    done = command("batch", str(path), "--url", server.url)
    assert done.returncode == 2
    assert message in done.stderr


def test_without_a_server(command: Run, tmp_path: Path) -> None:
    done = command("batch", str(write(tmp_path / "in.jsonl", 1)), "--url", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "does not answer" in done.stderr


def test_ctrl_c_leaves_the_batch_running(server: Served, tmp_path: Path, environ: dict[str, str]) -> None:
    path = write(tmp_path / "in.jsonl", 2000, max_tokens=50)
    argv = [sys.executable, "-m", "openllm", "batch", str(path), "--url", server.url]
    with subprocess.Popen(
        argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environ
    ) as child:
        assert child.stderr is not None
        first = child.stderr.readline()
        time.sleep(0.3)
        child.send_signal(signal.SIGINT)
        rest = child.stderr.read()
    assert child.returncode == 130
    name = first.partition(":")[0]
    assert f"openllm batch {name}" in rest
    with server.client as client:
        assert client.batches.cancel(name).status == "cancelling"
