"""`openllm keys`, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

from openllm.api.key_file import digest
from tests.cli.conftest import Run


def test_a_key_is_shown_once_and_kept_as_a_hash(command: Run, tmp_path: Path) -> None:
    file = str(tmp_path / "keys.toml")
    made = command("keys", "new", "alice", "--file", file, "--tokens", "1000")
    assert made.returncode == 0
    key = made.stdout.strip()
    assert key.startswith("sk-openllm-")
    assert "only time" in made.stderr
    listed = command("keys", "list", "--file", file, "--json")
    assert json.loads(listed.stdout) == [{"name": "alice", "sha256": digest(key), "tokens_per_minute": 1000}]
    assert "alice" in command("keys", "list", "--file", file).stdout
    assert command("keys", "remove", "alice", "--file", file).returncode == 0
    assert json.loads(command("keys", "list", "--file", file, "--json").stdout) == []


def test_what_makes_no_sense_is_refused(command: Run, tmp_path: Path) -> None:
    file = str(tmp_path / "keys.toml")
    assert command("keys", "new", "--file", file).returncode == 2
    assert command("keys", "new", "two words", "--file", file).returncode == 2
    assert command("keys", "list", "--file", file).returncode == 2  # there is none
    command("keys", "new", "a", "--file", file)
    assert "same" in command("keys", "new", "a", "--file", file).stderr
    assert command("keys", "list", "a", "--file", file).returncode == 2
    assert command("keys", "remove", "b", "--file", file).returncode == 2
    assert command("keys", "remove", "a", "--tokens", "5", "--file", file).returncode == 2
