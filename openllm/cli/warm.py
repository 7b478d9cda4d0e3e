"""Reads the file of ``--warm``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from openllm.errors import UsageError

_LINES = (".jsonl", ".ndjson")
# What is rendered behind a system prompt differs with each request; some templates want something there.
_QUESTION = {"role": "user", "content": "Hello"}
# They say how an answer is to be, of which one token is made.
_OF_ANSWERS = ("model", "max_tokens", "max_completion_tokens", "n", "stream", "stream_options")


def read_prompts(path: Path) -> list[dict[str, Any]]:
    """Bodies of chat requests, without a model. Each line of JSON Lines (``.jsonl``) is a list of messages or an object
    as a request's; any other file is the text of one system message. Raises ``UsageError``."""
    try:
        text = path.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise _error(str(path), f"cannot be read: {why}") from error
    if path.suffix.lower() not in _LINES:
        if not text.strip():
            raise _error(str(path), "is empty")
        return [{"messages": [{"role": "system", "content": text}, _QUESTION]}]
    # Not splitlines: JSON may hold other separators of lines as they are.
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise _error(str(path), "is empty")
    return [_request(f"{path}:{number}", line) for number, line in lines]


def _request(place: str, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise _error(place, f"is not JSON: {error}") from error
    if isinstance(value, list):
        value = {"messages": value}
    if not isinstance(value, dict) or not isinstance(value.get("messages"), list):
        raise _error(place, "has no messages")
    return {name: part for name, part in value.items() if name not in _OF_ANSWERS}


def _error(place: str, what: str) -> UsageError:
    hint = "Give a text, which is a system message, or a .jsonl file with a list of messages a line."
    return UsageError(f"{place} {what}.", hint=hint, param="warm")
