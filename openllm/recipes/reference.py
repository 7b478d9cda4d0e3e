"""What was typed where a model is asked for: a recipe's name, a hub id, or a path."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from openllm.errors import UnknownModel


@dataclass(frozen=True)
class RecipeName:
    """A name for ``Registry.find``."""

    name: str


@dataclass(frozen=True)
class HubId:
    """A repository of the hub. ``revision`` (branch, tag or commit) None means what the recipe pins, or the
    default branch."""

    repo: str
    revision: str | None = None


@dataclass(frozen=True)
class LocalPath:
    """A folder or a file of this machine, ``~`` expanded. It may not exist: whoever opens it says so."""

    path: Path


ModelRef = RecipeName | HubId | LocalPath

# As the hub has them: each part starts and ends with a letter, a digit or _.
_PART = r"\w(?:[\w.-]*\w)?"
_HUB_ID = re.compile(rf"(?P<repo>{_PART}/{_PART})(?:@(?P<revision>[\w][\w./-]*))?", re.ASCII)
_NAME = re.compile(r"[a-z0-9][\w.:-]*(?:@[\w.-]+)?", re.ASCII | re.IGNORECASE)


def parse_reference(text: str) -> ModelRef:
    """Tell what ``text`` is; looks at the disk only for whether a path exists.

    A path starts with ``/``, ``.`` or ``~``, ends in ``.gguf``, or has a separator and exists. A word without
    a separator is a recipe's name even if a folder is called so: what starts must not depend on where one
    stands. Raises UnknownModel when it can be none of them.
    """
    text = text.strip()
    path = Path(os.path.expanduser(text))  # pathlib's own raises for the ~ of an unknown user
    if text.startswith(("/", ".", "~")) or text.lower().endswith(".gguf"):
        return LocalPath(path)
    if ("/" in text or "\\" in text) and path.exists():
        return LocalPath(path)
    if match := _HUB_ID.fullmatch(text):
        return HubId(match["repo"], match["revision"])
    if _NAME.fullmatch(text):
        return RecipeName(text)
    raise UnknownModel(
        f"'{text}' is neither a model's name, nor a hub id, nor a path that exists",
        hint="Say a name of 'openllm models', org/name for a model of the hub, or ./folder for your own.",
    )
