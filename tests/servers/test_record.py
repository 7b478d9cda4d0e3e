"""The list of servers: a lock tells who lives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from openllm.cli.servers import choose
from openllm.errors import NoSuchServer
from openllm.servers.record import Record, Register


def record(port: int = 3000, name: str = "smollm2", **fields: object) -> Record:
    made = Record(
        name=name,
        models=(name, f"{name}:135m"),
        address=f"http://127.0.0.1:{port}",
        pid=os.getpid(),
        started=float(port),
        drain_seconds=30.0,
    )
    return msgspec.structs.replace(made, **fields)


def test_a_record_stands_until_it_is_taken_out(tmp_path: Path) -> None:
    register = Register(tmp_path / "servers")
    assert register.all() == []
    entry = register.enter(record())
    assert register.all() == [record()]
    assert register.of(os.getpid()) == record()
    entry.update(refusals=1, refusal="why")
    assert register.all() == [record(refusals=1, refusal="why")]
    entry.leave()
    entry.leave()
    assert register.all() == []
    assert list(register.folder.iterdir()) == []


def test_a_record_is_for_its_owner_only(tmp_path: Path) -> None:
    register = Register(tmp_path / "servers")
    entry = register.enter(record())
    assert {path.stat().st_mode & 0o777 for path in register.folder.iterdir()} == {0o600}
    assert register.folder.stat().st_mode & 0o777 == 0o700
    entry.leave()


def test_the_record_of_a_killed_server_is_removed(tmp_path: Path) -> None:
    """Also when another process has its number: the record names this test's."""
    code = (
        "import sys, time; from pathlib import Path; from openllm.servers.record import *;"
        "import msgspec; r = msgspec.json.decode(sys.argv[2], type=Record);"
        "e = Register(Path(sys.argv[1])).enter(r); print('in', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), msgspec.json.encode(record()).decode()],
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    with child.stdout as out:
        assert out.readline() == b"in\n"
        register = Register(tmp_path)
        assert register.of(os.getpid()) == record()
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert register.all() == []
    assert list(tmp_path.iterdir()) == []


def test_a_record_of_another_version_is_left_alone(tmp_path: Path) -> None:
    register = Register(tmp_path)
    entry = register.enter(record())
    path = next(tmp_path.iterdir())
    path.write_bytes(b'{"format": 2}')
    assert register.all() == []
    assert path.exists()
    entry.leave()


def test_choosing() -> None:
    one, two = record(3000), record(4000, "llama2")
    assert choose(None, [one]) == one
    for wanted in ("smollm2", "smollm2:135m", "3000", "http://127.0.0.1:3000"):
        assert choose(wanted, [one, two]) == one


@pytest.mark.parametrize(
    ("wanted", "running", "said"),
    [
        (None, [], "No server of yours runs"),
        ("qwen", [], "No server of yours runs"),
        (None, [record(3000), record(4000)], "Several servers run"),
        ("smollm2", [record(3000), record(4000)], "Several servers are called 'smollm2'"),
        ("qwen", [record(3000)], "No server is called 'qwen'"),
    ],
)
def test_nothing_is_chosen_by_chance(wanted: str | None, running: list[Record], said: str) -> None:
    with pytest.raises(NoSuchServer, match=said) as caught:
        choose(wanted, running)
    assert caught.value.hint is not None
    for each in running:
        assert str(each.port) in caught.value.hint
