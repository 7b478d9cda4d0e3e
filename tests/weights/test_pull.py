"""The pulling child: killed, resumed, twice at once, left alone, and offline; with the real hub client."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from openllm.errors import GatedModel
from openllm.weights.manifest import HubFiles
from openllm.weights.pull_messages import Done, Event, Failed, Note, Progress, PullRequest, as_error, encode
from openllm.weights.settings import HubSettings
from openllm.weights.store import Store
from tests.weights.builders import llama_files, manifest
from tests.weights.loopback_hub import LoopbackHub, LoopbackRepo
from tests.weights.pull_process import COMMAND, Puller

REPO, FILE = "org/model", "model.safetensors"
MODEL = manifest(HubFiles(repo=REPO))


@pytest.fixture(autouse=True)
def repository(hub: LoopbackHub) -> LoopbackRepo:
    hub.repos[REPO] = LoopbackRepo(llama_files(numbers=2_000_000))
    return hub.repos[REPO]


@pytest.fixture
def request_(empty_store: Store, settings: HubSettings) -> PullRequest:
    return PullRequest(manifest=MODEL, store=str(empty_store.root), hub=settings)


def _kill(puller: Puller) -> None:
    puller.process.kill()
    puller.process.wait(20)


def _hang_up(puller: Puller) -> None:
    assert puller.hang_up() != 0


def test_tells_how_it_goes_and_where_the_weights_are(request_: PullRequest, empty_store: Store) -> None:
    with Puller(request_) as puller:
        last = puller.last()
    assert isinstance(last, Done)
    assert last.weights == empty_store.ready(MODEL)
    assert puller.process.returncode == 0
    steps = [event for event in puller.events if isinstance(event, Progress)]
    assert steps[0].done == 0
    assert steps[-1].done == steps[-1].total > 4_000_000


def test_tells_an_error_as_it_was_raised(request_: PullRequest, repository: LoopbackRepo) -> None:
    repository.gated, repository.token = True, "hf_right"
    with Puller(request_) as puller:
        last = puller.last()
    assert isinstance(last, Failed)
    error = as_error(last)
    assert isinstance(error, GatedModel)
    assert "HF_TOKEN" in (error.hint or "")
    assert puller.process.returncode == GatedModel.exit_code


def test_what_is_no_request_is_an_error() -> None:
    ended = subprocess.run(COMMAND, input=b'{"manifest": 1}\n', capture_output=True, timeout=30)
    assert ended.returncode == 2
    assert b'"event":"error"' in ended.stdout


@pytest.mark.parametrize("end", [_kill, _hang_up])
def test_goes_on_after_its_predecessor_was_ended(
    end: Callable[[Puller], None],
    request_: PullRequest,
    hub: LoopbackHub,
    repository: LoopbackRepo,
    settings: HubSettings,
    empty_store: Store,
) -> None:
    hub.faults.seconds_per_piece = 0.02
    with Puller(request_) as first:
        first.until_bytes(1_500_000)
        end(first)
    assert empty_store.ready(MODEL) is None
    assert not list(Path(settings.cache).rglob(f"snapshots/*/{FILE}"))
    hub.faults.seconds_per_piece = 0
    hub.asked.clear()
    with Puller(request_) as second:
        last = second.last()
    assert isinstance(last, Done)
    content = repository.files[FILE]
    assert Path(last.weights.path, FILE).read_bytes() == content
    assert hub.bytes_sent(FILE) < len(content) - 1_000_000


def test_two_at_once_fetch_once(request_: PullRequest, hub: LoopbackHub, repository: LoopbackRepo) -> None:
    hub.faults.seconds_per_piece = 0.02
    with Puller(request_) as first:
        first.until(lambda event: isinstance(event, Progress))
        with Puller(request_) as second:
            second.until(lambda event: isinstance(event, Note) and "another process" in event.text)
            hub.faults.seconds_per_piece = 0
            results = [first.last(), second.last()]
    assert isinstance(results[0], Done)
    assert results[0] == results[1]
    assert hub.bytes_sent(FILE) == len(repository.files[FILE])


_PARENT = """
import subprocess, sys, time
child = subprocess.Popen({command!r}, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
child.stdin.write({request!r})
child.stdin.flush()
print(child.pid, flush=True)
time.sleep(60)
"""


def test_ends_when_its_parent_is_killed(request_: PullRequest, hub: LoopbackHub) -> None:
    hub.faults.seconds_per_piece = 0.5
    code = _PARENT.format(command=COMMAND, request=encode(request_))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        _wait_for(lambda: hub.bytes_sent(FILE) > 0)
        parent.kill()
    _wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def _wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# Ends the process when anything in it makes a socket. Nothing is replaced: the interpreter tells of each.
_WITHOUT_SOCKETS = """
import os, runpy, sys
def watch(event, arguments):
    if event.startswith("socket."):
        os._exit(99)
sys.addaudithook(watch)
runpy.run_module("openllm.weights.pull", run_name="__main__")
"""


def _pull_without_sockets(request: PullRequest) -> tuple[int, bytes]:
    command = [sys.executable, "-c", _WITHOUT_SOCKETS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(encode(request))
        child.stdin.flush()
        answer = child.stdout.read()
    return child.returncode, answer


def _offline(request: PullRequest) -> PullRequest:
    return PullRequest(manifest=request.manifest, store=request.store, hub=request.hub, offline=True)


def test_offline_opens_no_socket(request_: PullRequest) -> None:
    code, answer = _pull_without_sockets(_offline(request_))
    assert code == 3
    assert b'"code":"offline"' in answer


def test_offline_finds_what_is_here_without_a_socket(request_: PullRequest, tmp_path: Path) -> None:
    with Puller(request_) as puller:
        done: Event = puller.last()
    elsewhere = PullRequest(manifest=MODEL, store=str(tmp_path / "other"), hub=request_.hub, offline=True)
    code, answer = _pull_without_sockets(elsewhere)
    assert code == 0
    assert answer.endswith(encode(done))


def test_online_opens_a_socket(request_: PullRequest) -> None:
    """The watch of the two tests above does see sockets."""
    assert _pull_without_sockets(request_)[0] == 99
