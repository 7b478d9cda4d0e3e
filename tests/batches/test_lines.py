"""The bounds of an input file; what is wrong with a single line is tested over HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from openllm.batches import lines
from openllm.batches.lines import Remaining, check_file

URL = "/v1/completions"


def text(number: int, prompt: str = "x") -> bytes:
    body = {"model": "m", "prompt": prompt}
    return json.dumps({"custom_id": str(number), "method": "POST", "url": URL, "body": body}).encode() + b"\n"


def anything(_: str) -> None:
    """Serves every model."""


def test_too_many_lines(tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_bytes(b"".join(map(text, range(lines.MOST_LINES))))
    assert check_file(path, URL, anything).errors == []
    with path.open("ab") as file:
        file.write(text(lines.MOST_LINES))
    (error,) = check_file(path, URL, anything).errors
    assert error.code == "too_many_requests"


def test_a_line_that_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_bytes(text(1) + text(2, "x" * lines.LONGEST_LINE) + text(3))
    (error,) = check_file(path, URL, anything).errors
    assert (error.code, error.line) == ("line_too_long", 2)


def test_errors_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_bytes(b"{\n" * 1000)
    found = check_file(path, URL, anything)
    assert [error.line for error in found.errors] == list(range(1, 101))


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\n\n"])
def test_what_remains_is_taken_in_order(tmp_path: Path, ending: bytes) -> None:
    path = tmp_path / "input"
    path.write_bytes(ending.join(text(number).strip() for number in range(100)))
    assert check_file(path, URL, anything).total == 100
    remaining = Remaining(path, {str(number) for number in range(0, 100, 2)})
    taken = []
    while some := remaining.take():
        assert len(some) <= 32
        taken += [line.custom_id for line in some]
    assert taken == [str(number) for number in range(1, 100, 2)]
