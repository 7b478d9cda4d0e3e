"""The file of keys: what is written can be read, what is wrong is named by line and key, and it is followed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from openllm.api.account import Limits
from openllm.api.key_file import PREFIX, Entry, KeyFile, digest, new_key
from openllm.api.key_ring import KeyRing
from openllm.errors import InvalidKeyFile

A, B = "a" * 64, "b" * 64


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "folder" / "keys.toml")


def write(file: KeyFile, text: str) -> None:
    file.path.parent.mkdir(exist_ok=True)
    file.path.write_text(text)


def test_what_is_added_is_read_and_comments_stay(file: KeyFile) -> None:
    file.add(Entry("alice", A, 8, 600, 100_000))
    write(file, "# ours\n" + file.path.read_text() + "# the next one is a test's\n")
    file.add(Entry("bob@x", B))
    assert file.read() == [Entry("alice", A, 8, 600, 100_000), Entry("bob@x", B)]
    assert file.read()[0].limits == Limits(8, 600, 100_000)
    assert file.remove("alice")
    assert not file.remove("alice")
    assert file.read() == [Entry("bob@x", B)]
    assert file.path.read_text().startswith("# ours\n")


def test_only_its_owner_may_read_it_and_no_key_is_in_it(file: KeyFile) -> None:
    key = new_key()
    file.add(Entry("alice", digest(key)))
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert os.listdir(file.path.parent) == ["keys.toml"]
    assert key not in file.path.read_text()
    assert key.startswith(PREFIX)
    assert len(key) > len(PREFIX) + 40


GOOD = f'[[keys]]\nname = "a"\nsha256 = "{A}"\n'


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        (GOOD + f'\n[[keys]]\nname = "b"\nsha256 = "{B}"\ntokens = 5\n', 8, "tokens"),
        (GOOD + f'[[keys]]\nname = "b c"\nsha256 = "{B}"\n', 5, "name"),
        (GOOD + '[[keys]]\nname = "b"\nsha256 = "abc"\n', 6, "sha256"),
        (GOOD + '[[keys]]\nname = "b"\n', 4, "sha256"),
        (GOOD + "concurrency = 0\n", 4, "concurrency"),
        (GOOD + 'requests_per_minute = "many"\n', 4, "requests_per_minute"),
        (GOOD + GOOD, 5, "name"),
        (GOOD + f'[[keys]]\nname = "b"\nsha256 = "{A}"\n', 6, "sha256"),
        ("key = 1\n" + GOOD, 1, "key"),
        ('keys = ["a"]\n', 1, r"\[\[keys\]\]"),
        ("keys = 5\n", 1, r"\[\[keys\]\]"),
        (GOOD + "name = \n", 4, "Invalid value"),
    ],
)
def test_the_first_thing_that_is_wrong_is_named(file: KeyFile, text: str, line: int, word: str) -> None:
    write(file, text)
    with pytest.raises(InvalidKeyFile, match=rf"keys\.toml:{line}: .*{word}"):
        file.read()


def test_a_file_that_cannot_be_read_is_named(file: KeyFile) -> None:
    with pytest.raises(InvalidKeyFile, match=r"keys\.toml: No such file"):
        file.read()
    write(file, "")
    file.path.write_bytes(b"\xff")
    with pytest.raises(InvalidKeyFile, match="UTF-8"):
        file.read()


def test_adding_to_a_file_that_is_wrong_changes_nothing(file: KeyFile) -> None:
    write(file, GOOD)
    with pytest.raises(InvalidKeyFile, match="another key has the same"):
        file.add(Entry("a", B))
    assert file.path.read_text() == GOOD


def test_a_ring_follows_its_file(file: KeyFile) -> None:
    now = 0.0
    first, second = new_key(), new_key()
    file.add(Entry("a", digest(first)))
    ring = KeyRing(file, "from the environment", clock=lambda: now)
    assert len(ring) == 2
    assert ring.find(second) is None
    file.add(Entry("b", digest(second)))
    file.remove("a")
    assert ring.find(second) is None  # it has not looked yet
    now = 1.0
    found = ring.find(second)
    assert found is not None
    assert found[0].name == "b"
    assert ring.find(first) is None
    assert ring.find("from the environment") is not None
    write(file, "broken")
    now = 2.0
    assert ring.find(second) is not None  # what is wrong changes nothing
    file.path.unlink()
    now = 3.0
    assert ring.find(second) is not None


def test_a_key_keeps_its_account_while_its_limits_stay(file: KeyFile) -> None:
    key = new_key()
    file.add(Entry("a", digest(key), concurrency=1))
    ring = KeyRing(file)
    first, second = ring.find(key), ring.find(key)
    assert first is not None
    assert second is not None
    assert first[1] is second[1]
