"""Talk: lines for people, on stderr. stdout is for data."""

from __future__ import annotations

import sys
import time

from openllm.cli.settings import wants_color
from openllm.errors import OpenLLMError

_RED, _CYAN, _PLAIN = "\x1b[1;31m", "\x1b[36m", "\x1b[0m"


def note(text: str) -> None:
    """One line of news."""
    print(text, file=sys.stderr, flush=True)


def stamped(text: str) -> None:
    """One line of news, with the time: for a log file."""
    note(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {text}")


def say_error(message: str, hint: str | None = None) -> None:
    """``error: …`` and ``hint: …``, each on one line."""
    note(f"{_painted('error:', _RED)} {_one_line(message)}")
    if hint:
        note(f"{_painted('hint:', _CYAN)} {_one_line(hint)}")


def say_failure(error: OpenLLMError) -> None:
    """An error of ours, as text."""
    say_error(error.message, error.hint)


def _painted(text: str, color: str) -> str:
    return f"{color}{text}{_PLAIN}" if wants_color(sys.stderr) else text


def _one_line(text: str) -> str:
    return " ".join(text.split())
