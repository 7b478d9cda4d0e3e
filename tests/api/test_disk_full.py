"""A model that is fetched on demand onto a disk that is full: a real, small file system, and a hub on loopback."""

from __future__ import annotations

import concurrent.futures
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from openllm.weights import disk
from tests.serving import Served, serving
from tests.weights.builders import llama_files
from tests.weights.loopback_hub import LoopbackHub, LoopbackRepo

MODEL = "org/model"
MEGABYTE = 1 << 20
WEIGHTS = 12_000_000  # bytes; 36 MiB are free beside the margin


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "la": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    files = {**llama_files(numbers=WEIGHTS // 2), "tokenizer.json": tokenizer.to_str().encode()}
    with LoopbackHub() as running:
        running.repos[MODEL] = LoopbackRepo(files)
        yield running


@pytest.fixture
def served(hub: LoopbackHub, small_disk: Path) -> Iterator[Served]:
    environ = {"HF_ENDPOINT": hub.url, "HF_HOME": str(small_disk), "OPENLLM_CACHE": str(small_disk / "store")}
    with serving(MODEL, "--backend", "echo", "--start-asleep", environ=environ) as server:
        yield server


def ask(server: Served, *, stream: bool = False) -> tuple[int, Any]:
    """The status, and the error of the answer if it has one."""
    body = {"model": MODEL, "prompt": "la la", "max_tokens": 2, "stream": stream}
    answer = httpx.post(f"{server.url}/v1/completions", json=body, timeout=60)
    if answer.headers["content-type"].startswith("text/event-stream"):
        events = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")]
        return answer.status_code, json.loads(events[-1]).get("error")
    return answer.status_code, answer.json().get("error")


def fill(folder: Path, free: int) -> Path:
    filler = folder / "filler"
    with filler.open("ab") as file:
        file.write(b"\0" * (disk.free_bytes(folder) - free))
    return filler


def until_asleep(server: Served) -> None:
    deadline = time.monotonic() + 20
    while httpx.get(f"{server.url}/readyz").json()["state"] != "asleep":
        assert time.monotonic() < deadline, server.log
        time.sleep(0.05)


def test_who_waits_for_weights_is_told_of_a_full_disk_and_the_next_is_answered_once_there_is_room(
    served: Served, hub: LoopbackHub, small_disk: Path
) -> None:
    filler = fill(small_disk, free=70 * MEGABYTE)  # less than the weights and the margin
    status, error = ask(served)
    assert (status, error["code"]) == (507, "disk_full")
    assert "missing. Free some space, or set HF_HOME" in error["message"]
    assert hub.bytes_sent("model.safetensors") < 1000  # its header
    filler.unlink()
    until_asleep(served)

    hub.faults.seconds_per_piece = 0.01
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(ask, served, stream=stream) for stream in (False, True, False, True)]
        deadline = time.monotonic() + 20
        while hub.bytes_sent("model.safetensors") < MEGABYTE:
            assert time.monotonic() < deadline, served.log
            time.sleep(0.01)
        filler = fill(small_disk, free=2 * MEGABYTE)
        answers = [each.result() for each in waiting]
    status, error = ask(served)  # it is not tried again at once
    assert status == 503
    assert "HF_HOME" in error["message"]
    for status, error in answers:
        assert status in (200, 507)  # a stream may have begun
        assert error["code"] == "disk_full"
        assert "ran full" in error["message"]
        assert "Free some space, or set HF_HOME" in error["message"]
    assert not list(small_disk.rglob("ready/*")) + list(small_disk.rglob("tmp/*"))
    assert not list(small_disk.rglob("snapshots/*/model.safetensors"))
    until_asleep(served)
    assert served.log.count("HF_HOME") == 2

    hub.faults.seconds_per_piece = 0.0
    filler.unlink()
    assert ask(served) == (200, None)
    assert not [path for path in small_disk.rglob("*") if "part" in path.name or "incomplete" in path.name]
