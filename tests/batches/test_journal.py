"""A journal that is cut anywhere and gone on with has every answer once."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openllm.batches.journal import Answered, Failure, Journal, Response
from tests.batches.conftest import fill

BODY = b'{"usage":{"prompt_tokens":3,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":1}}}'


def answered(number: int) -> Answered:
    """Every third fails."""
    status = 400 if number % 3 == 2 else 200
    return Answered(f"batch_req_{number}", f"é{number}", Response(status, "req_1", msgspec.Raw(BODY)), None)


def ids(path: Path) -> list[str]:
    return [json.loads(line)["custom_id"] for line in path.read_text().splitlines()]


@settings(deadline=None)
@given(written=st.integers(0, 12), cut=st.integers(0, 600), reopened=st.integers(1, 3))
def test_cut_anywhere(
    tmp_path_factory: pytest.TempPathFactory, written: int, cut: int, reopened: int
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    output, errors = folder / "output", folder / "errors"
    for _ in range(reopened):
        journal = Journal(output, errors)
        for number in range(written):
            journal.add(answered(number))
        journal.flush(sync=False)
        journal.close()
        content = output.read_bytes()
        output.write_bytes(content[: max(0, len(content) - cut)])
    journal = Journal(output, errors)
    assert {f"é{number}" for number in range(written)} >= journal.done
    for number in range(12):
        journal.add(answered(number))
    journal.flush(sync=True)
    journal.close()
    assert sorted(ids(output)) == sorted(f"é{number}" for number in range(12) if number % 3 != 2)
    assert sorted(ids(errors)) == sorted(f"é{number}" for number in range(12) if number % 3 == 2)
    assert (journal.completed, journal.failed) == (8, 4)
    assert journal.usage.body()["total_tokens"] == 40
    assert journal.usage.cached_tokens == 8


def test_a_failure_counts_as_failed_and_goes_to_the_errors(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "output", tmp_path / "errors")
    journal.add(Answered("batch_req_1", "a", None, Failure("batch_expired", "Too late.")))
    journal.flush(sync=False)
    journal.close()
    line = json.loads((tmp_path / "errors").read_text())
    assert line == {
        "id": "batch_req_1", "custom_id": "a", "response": None,
        "error": {"code": "batch_expired", "message": "Too late."},
    }  # fmt: skip
    assert (journal.completed, journal.failed) == (0, 1)


def test_a_full_disk_loses_nothing(small_disk: Path) -> None:
    output = small_disk / "output"
    journal = Journal(output, small_disk / "errors")
    journal.add(answered(0))
    journal.flush(sync=True)
    filler = fill(small_disk)
    big = msgspec.Raw(json.dumps({"text": "x" * 100_000}).encode())
    journal.add(Answered("batch_req_1", "big", Response(200, "req_1", big), None))
    with pytest.raises(OSError, match="No space left"):
        journal.flush(sync=False)
    assert ids(output) == ["é0"]
    filler.unlink()
    journal.flush(sync=True)
    journal.close()
    assert ids(output) == ["é0", "big"]
