"""The lines of a batch's input: one JSON object each, the request of one answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterator
from pathlib import Path

import msgspec

from openllm.batches.records import LineError
from openllm.errors import OpenLLMError

MOST_LINES = 50_000
LONGEST_LINE = 16 * 1024 * 1024
LONGEST_CUSTOM_ID = 512
_MOST_ERRORS = 100
_MOST_TAKEN = 32
_MOST_BYTES_TAKEN = 1024 * 1024
# A thread that decodes holds Python's lock: after so long it lets the event loop have it.
_AT_A_STRETCH_SECONDS = 0.001


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request: ``body`` is the JSON object that ``url`` gets, as it was written."""

    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class _Body(msgspec.Struct, frozen=True):
    """What is looked at before the body's own route reads it."""

    model: object = None
    stream: object = False


class Checked(msgspec.Struct):
    """What the check of a whole file found."""

    total: int = 0
    model: str | None = None
    errors: list[LineError] = msgspec.field(default_factory=list)

    def refuse(self, number: int | None, code: str, message: str, param: str | None = None) -> None:
        """Note an error of a line; of many, the first ones."""
        if len(self.errors) < _MOST_ERRORS:
            self.errors.append(LineError(code, message, param, number))


CheckModel = Callable[[str], None]
"""Raises the ``OpenLLMError`` that speaks against a model's name."""


def check_file(path: Path, endpoint: str, check_model: CheckModel) -> Checked:
    """Read a whole input file and say what is wrong with it. Blocks for long; belongs into a thread.

    Raises ``OSError``.
    """
    found = Checked()
    seen: set[str] = set()
    for number, text in _numbered(path):
        if len(text) > LONGEST_LINE:
            # The rest of such a line would be taken for lines of its own.
            found.refuse(number, "line_too_long", f"The line is longer than {LONGEST_LINE} bytes.")
            return found
        found.total += 1
        if found.total > MOST_LINES:
            found.refuse(None, "too_many_requests", f"The file has more than {MOST_LINES} requests.")
            return found
        _check_line(number, text, endpoint, seen, found, check_model)
    if not found.total:
        found.refuse(None, "empty_file", "The file has no requests.")
    return found


class Remaining:
    """Reads a checked file's lines that are not in ``done``, some at a time."""

    def __init__(self, path: Path, done: Container[str]) -> None:
        self._numbered = _numbered(path)
        self._done = done

    def take(self) -> list[Line]:
        """The next ones, none at the end. Blocks on the disk; belongs into a thread. Raises ``OSError``."""
        taken: list[Line] = []
        size = 0
        for _, text in self._numbered:
            line = msgspec.json.decode(text, type=Line)
            if line.custom_id in self._done:
                continue
            taken.append(line)
            size += len(text)
            if len(taken) >= _MOST_TAKEN or size >= _MOST_BYTES_TAKEN:
                break
        return taken


def _numbered(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, counted from 1, the whitespace around them gone."""
    rested = time.monotonic()
    with path.open("rb") as file:
        number = 0
        while text := file.readline(LONGEST_LINE + 2):
            number += 1
            if text := text.strip():
                yield number, text
            if time.monotonic() - rested > _AT_A_STRETCH_SECONDS:
                time.sleep(_AT_A_STRETCH_SECONDS / 2)
                rested = time.monotonic()


def _check_line(
    number: int, text: bytes, endpoint: str, seen: set[str], found: Checked, check_model: CheckModel
) -> None:
    try:
        line = msgspec.json.decode(text, type=Line)
    except msgspec.ValidationError as error:
        found.refuse(number, "invalid_request", f"The line is not a request: {error}.")
        return
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        found.refuse(number, "invalid_json_line", f"The line is not valid JSON: {error}.")
        return
    if line.method != "POST":
        found.refuse(number, "invalid_method", "The method must be POST.", "method")
    if line.url != endpoint:
        found.refuse(number, "invalid_url", f"The url must be the batch's endpoint, {endpoint}.", "url")
    if not 1 <= len(line.custom_id) <= LONGEST_CUSTOM_ID:
        message = f"The custom_id must have 1 to {LONGEST_CUSTOM_ID} characters."
        found.refuse(number, "invalid_custom_id", message, "custom_id")
    elif line.custom_id in seen:
        message = f"The custom_id {line.custom_id!r} was used before."
        found.refuse(number, "duplicate_custom_id", message, "custom_id")
    seen.add(line.custom_id)
    _check_body(number, line, found, check_model)


def _check_body(number: int, line: Line, found: Checked, check_model: CheckModel) -> None:
    try:
        # Decoded in full: ``Raw`` was only skipped over.
        msgspec.json.decode(line.body)
        body = msgspec.json.decode(line.body, type=_Body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        found.refuse(number, "invalid_body", "The body must be a JSON object.", "body")
        return
    if body.stream:
        found.refuse(number, "invalid_body", "A batch cannot stream; leave 'stream' out.", "body.stream")
    if not isinstance(body.model, str):
        found.refuse(number, "invalid_body", "The body must name its model.", "body.model")
        return
    found.model = found.model or body.model
    try:
        check_model(body.model)
    except OpenLLMError as error:
        found.refuse(number, error.code, error.message, "body.model")
