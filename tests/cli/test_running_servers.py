"""Servers in the background: started, listed, read, replaced and stopped, with real processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from openllm.chat.tokenizer import load_tokenizer
from tests.cli.conftest import Run
from tests.weights.builders import llama_files, write_folder

ECHO = ("smollm2", "--backend", "echo", "--port", "0", "--cache-dir")


@pytest.fixture
def cache(store: object) -> str:
    return str(store.root)  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def none_is_left(openllm: Run) -> Iterator[None]:
    yield
    openllm("stop", "--all", "--now")
    assert json.loads(openllm("ps", "--json").stdout) == []


def detached(openllm: Run, cache: str, *args: str) -> str:
    """The address of a new server."""
    done = openllm("start", *ECHO, cache, "--detach", *args)
    assert done.returncode == 0, done.stderr
    url = done.stdout.strip()
    assert re.fullmatch(r"https?://127\.0\.0\.1:\d+", url), done
    return url


def until_ready(url: str) -> None:
    deadline = time.monotonic() + 60
    while httpx.get(f"{url}/readyz").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def listed(openllm: Run) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(openllm("ps", "--json").stdout)
    return found


def test_a_life_in_the_background(openllm: Run, cache: str) -> None:
    url = detached(openllm, cache, "--name", "mine")
    assert httpx.get(f"{url}/livez").status_code == 200
    until_ready(url)
    (row,) = listed(openllm)
    assert row["name"] == "mine"
    assert row["address"] == url
    assert row["state"] == "ready"
    assert "smollm2" in row["models"]  # type: ignore[operator]
    front = psutil.Process(row["pid"])
    assert front.terminal() is None
    assert front.children()[0].ppid() == row["pid"]
    assert row["memory_bytes"] > front.memory_full_info().uss
    table = openllm("ps").stdout.splitlines()
    assert "mine" in table[1]
    assert "ready" in table[1]

    log = openllm("logs", "mine", "-n", "2").stdout.splitlines()
    assert len(log) == 2
    assert log[1].endswith("s")
    assert "ready: engine loaded" in log[1]
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} ", log[1])

    done = openllm("stop", "mine")
    assert done.returncode == 0
    assert "stopped" in done.stderr
    assert not psutil.pid_exists(front.pid) or front.status() == psutil.STATUS_ZOMBIE
    assert listed(openllm) == []
    # What it wrote can be read when it is gone.
    assert "listening on" in openllm("logs", url.rpartition(":")[2]).stdout


def test_an_error_of_a_detached_start_is_shown(openllm: Run, cache: str) -> None:
    done = openllm("start", "smolm2", "--port", "0", "--detach")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "error: " in done.stderr
    assert "smollm2" in done.stderr
    assert listed(openllm) == []
    url = detached(openllm, cache)
    port = url.rpartition(":")[2]
    second = openllm("start", "smollm2", "--port", port, "--detach")
    assert second.returncode == 4
    assert f"Port {port}" in second.stderr


def test_commands_without_a_server(command: Run) -> None:
    for name in ("stop", "logs", "restart"):
        done = command(name)
        assert done.returncode == 2
        assert "No server of yours runs here." in done.stderr
        assert "openllm start" in done.stderr
    assert command("stop", "--all").returncode == 0
    assert command("ps").returncode == 0


def test_wrong_options(command: Run) -> None:
    for args, said in (
        (("--name", "a b"), "is no name"),
        (("--log-size", "1MB"), "--log-size needs a log file"),
        (("--log-file", "/proc/none/log"), "cannot be written"),
    ):
        done = command("start", "smollm2", "--backend", "echo", "--port", "0", *args)
        assert done.returncode in (2, 4)
        assert said in done.stderr
    assert command("stop", "a", "--all").returncode == 2


def test_stop_now_cuts_answers_off(openllm: Run, cache: str) -> None:
    url = detached(openllm, cache, "--engine-option", "delay=0.05")
    until_ready(url)
    body = {"model": "smollm2", "prompt": "la la", "max_tokens": 4000, "stream": True}
    with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=60) as answer:
        next(answer.iter_lines())
        begun = time.monotonic()
        assert openllm("stop", "--now").returncode == 0
        assert time.monotonic() - begun < 15  # the answer would take 200 s, and the drain 30 s


def test_a_log_file_that_is_followed_and_moved(openllm: Run, cache: str, tmp_path: Path) -> None:
    path = tmp_path / "my.log"
    url = detached(openllm, cache, "--log-file", str(path), "--access-log", "text")
    until_ready(url)
    (row,) = listed(openllm)
    assert row["log"] == str(path)
    path.rename(tmp_path / "moved.log")
    os.kill(row["pid"], signal.SIGHUP)  # type: ignore[arg-type]
    deadline = time.monotonic() + 10
    while not path.exists() or "goes on in a new" not in path.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert httpx.get(f"{url}/v1/models", headers={"x-request-id": "seen-1"}).status_code == 200
    assert "seen-1" in openllm("logs").stdout


class Traffic:
    """Requests one after the other, each on a connection of its own, or all on one; what went wrong is kept."""

    def __init__(self, url: str, *, kept_alive: bool) -> None:
        self.answered = 0
        self.failures: list[str] = []
        self._url = url
        self._kept_alive = kept_alive
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join(60)

    def _run(self) -> None:
        client = httpx.Client(timeout=60)
        body = {"model": "smollm2", "prompt": "Hi there", "max_tokens": 2}
        while not self._over.is_set():
            try:
                answer = client.post(f"{self._url}/v1/completions", json=body)
                if answer.status_code != 200:
                    self.failures.append(answer.text)
                self.answered += 1
            except httpx.HTTPError as error:
                self.failures.append(repr(error))
            if not self._kept_alive:
                client.close()
                client = httpx.Client(timeout=60)
        client.close()


def test_a_restart_refuses_no_request(openllm: Run, cache: str, tmp_path: Path) -> None:
    options = (
        "--engine-option",
        "delay=0.02",
        "--engine-option",
        "load=1",
        "--data-dir",
        str(tmp_path / "d"),
    )
    url = detached(openllm, cache, *options)
    until_ready(url)
    (old,) = listed(openllm)
    traffic = [Traffic(url, kept_alive=kept) for kept in (True, False, False)]
    body = {"model": "smollm2", "prompt": "la la", "max_tokens": 400, "stream": True}
    with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=60) as answer:
        lines = answer.iter_lines()
        next(lines)
        done = openllm("restart")
        assert done.returncode == 0, done.stderr
        before = [each.answered for each in traffic]
        streamed = [line for line in lines if line.startswith("data: {")]
    (new,) = listed(openllm)
    deadline = time.monotonic() + 30
    for each, count in zip(traffic, before, strict=True):
        while each.answered <= count + 1:  # one may have been on its way before
            assert time.monotonic() < deadline
            time.sleep(0.02)
    for each in traffic:
        each.end()
        assert each.failures == []
    # The stream that began before ended in full, on the old server.
    assert json.loads(streamed[-1][6:])["choices"][0]["finish_reason"] == "length"
    assert new["address"] == old["address"] == url
    assert new["pid"] != old["pid"]
    deadline = time.monotonic() + 20
    while psutil.pid_exists(old["pid"]) and psutil.Process(old["pid"]).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    # The folder of files went over.
    assert httpx.get(f"{url}/v1/files").status_code == 200


def test_a_restart_that_fails_changes_nothing(openllm: Run, cache: str, tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text("")
    url = detached(openllm, cache, "--api-key-file", str(keys))
    until_ready(url)
    (old,) = listed(openllm)
    keys.write_text("[[keys]\n")
    done = openllm("restart")
    assert done.returncode == 5
    assert "goes on" in done.stderr
    assert "keys.toml:1" in done.stderr
    keys.write_text("")
    (still,) = listed(openllm)
    assert still["pid"] == old["pid"]
    assert openllm("restart").returncode == 0


def test_a_server_of_a_pipe_has_no_log(openllm: Run, cache: str, environ: dict[str, str]) -> None:
    import sys

    argv = [sys.executable, "-m", "openllm", "start", *ECHO, cache]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, env=environ) as server:
        assert server.stderr is not None
        while "listening" not in server.stderr.readline():
            pass
        deadline = time.monotonic() + 10
        while not listed(openllm):
            assert time.monotonic() < deadline
        done = openllm("logs")
        assert done.returncode == 2
        assert "--detach" in done.stderr
        server.send_signal(signal.SIGKILL)
    assert listed(openllm) == []


def test_a_restart_whose_engine_does_not_start_changes_nothing(
    openllm: Run, smollm2_gguf: Path, tmp_path: Path
) -> None:
    """What is wrong shows when the plan is made already and the weights are opened."""
    folder = write_folder(tmp_path / "model", llama_files())
    tokenizer = folder / "tokenizer.json"
    whole = load_tokenizer(smollm2_gguf).backend.to_str()
    tokenizer.write_text(whole)
    done = openllm("start", str(folder), "--backend", "echo", "--port", "0", "--detach")
    assert done.returncode == 0, done.stderr
    url = done.stdout.strip()
    until_ready(url)
    (old,) = listed(openllm)
    tokenizer.write_text(whole[:-100])
    done = openllm("restart")
    assert done.returncode == 5, done.stderr
    assert "goes on" in done.stderr
    (still,) = listed(openllm)
    assert still["pid"] == old["pid"]
    assert httpx.get(f"{url}/readyz").status_code == 200
