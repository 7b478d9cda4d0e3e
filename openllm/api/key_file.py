"""The file of API keys: TOML, so that an entry can be added at its end and comments stay.

Only a key's SHA-256 is kept. A slow hash, as for passwords, would protect nothing here and cost every request: keys
are 256 random bits, which no list of guesses holds.

    [[keys]]
    name = "alice"
    sha256 = "…64 hex digits…"
    concurrency = 8                # these three are optional
    requests_per_minute = 600
    tokens_per_minute = 100000
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec

from openllm.api.account import Limits
from openllm.errors import InvalidKeyFile

PREFIX = "sk-openllm-"
_HEAD = re.compile(r"^\s*\[\[\s*keys\s*\]\]\s*(#.*)?$")
_AT_LINE = re.compile(r" \(at line (\d+), column \d+\)$")
_PATH = re.compile(r" - at `\$\.?(.*)`$")
Count = Annotated[int, msgspec.Meta(ge=1)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._@-]{1,64}$")]
Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One key."""

    name: Name
    sha256: Digest
    concurrency: Count | None = None
    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None

    @property
    def limits(self) -> Limits:
        return Limits(self.concurrency, self.requests_per_minute, self.tokens_per_minute)


def new_key() -> str:
    """A key of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def digest(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


class KeyFile:
    """The keys of the file at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[Entry]:
        """Raises ``InvalidKeyFile`` with the file, the line and the key of the first thing that is wrong."""
        return self._parse(self._text())

    def add(self, entry: Entry) -> None:
        """Write ``entry`` at the end; the file is made if there is none. Raises ``InvalidKeyFile``."""
        text = self._text() if self.path.exists() else ""
        lines = [f"{name} = {_value(value)}" for name, value in msgspec.to_builtins(entry).items()]
        text = (
            text
            + ("\n" if text and not text.endswith("\n\n") else "")
            + "\n".join(["[[keys]]", *lines])
            + "\n"
        )
        self._parse(text)  # a name that is taken
        self._write(text)

    def remove(self, name: str) -> bool:
        """Take a key out; False if there is none of that name. Raises ``InvalidKeyFile``."""
        text = self._text()
        if name not in [entry.name for entry in self._parse(text)]:
            return False
        kept = [block for _, block in _blocks(text) if _name(block) != name]
        self._write("".join(kept))
        return True

    def _text(self) -> str:
        try:
            return self.path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise self._error(None, "it is not UTF-8 text") from error
        except OSError as error:
            raise self._error(None, error.strerror or str(error)) from error

    def _parse(self, text: str) -> list[Entry]:
        try:
            tables = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            found = _AT_LINE.search(str(error))
            raise self._error(int(found[1]) if found else None, _AT_LINE.sub("", str(error))) from error
        unknown = [name for name in tables if name != "keys"]
        if unknown:
            raise self._error(_line(text, unknown[0]), f"{unknown[0]!r} is not known; write [[keys]]")
        values = tables.get("keys", [])
        blocks = [(line, block) for line, block in _blocks(text) if _HEAD.match(block.splitlines()[0])]
        if not isinstance(values, list) or len(values) != len(blocks):
            raise self._error(_line(text, "keys"), "write each key as a table of its own under [[keys]]")
        entries: list[Entry] = []
        for (line, block), value in zip(blocks, values, strict=True):
            entry = self._entry(line, block, value)
            for field in ("name", "sha256"):
                if getattr(entry, field) in [getattr(other, field) for other in entries]:
                    raise self._error(line + _line(block, field) - 1, f"{field}: another key has the same")
            entries.append(entry)
        return entries

    def _entry(self, line: int, block: str, value: Any) -> Entry:
        try:
            return msgspec.convert(value, Entry)
        except msgspec.ValidationError as error:
            message = str(error)
            found = _PATH.search(message) or re.search(r"field `(\w+)`", message)
            field = found[1] if found else ""
            message = _PATH.sub("", message)
            raise self._error(
                line + _line(block, field) - 1, f"{field}: {message}" if field else message
            ) from None

    def _write(self, text: str) -> None:
        """Replace the file in one step; only its owner may read it."""
        fresh = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(
                os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
            ) as file:
                file.write(text)
            fresh.replace(self.path)
        except OSError as error:
            fresh.unlink(missing_ok=True)
            raise self._error(None, error.strerror or str(error)) from error

    def _error(self, line: int | None, message: str) -> InvalidKeyFile:
        place = str(self.path) if line is None else f"{self.path}:{line}"
        hint = "Make keys with: openllm keys new NAME --file FILE"
        return InvalidKeyFile(f"{place}: {message}.", hint=hint, param="api_key_file")


def _blocks(text: str) -> Iterator[tuple[int, str]]:
    """(number of its first line, text) of what stands before the first key, if anything, and of each key."""
    first, lines = 1, list[str]()
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        if _HEAD.match(line) and lines:
            yield first, "".join(lines)
            first, lines = number, []
        lines.append(line)
    if lines:
        yield first, "".join(lines)


def _name(block: str) -> str | None:
    values = tomllib.loads(block).get("keys")
    return values[0].get("name") if values else None


def _line(text: str, key: str) -> int:
    """The line (from 1) where a key is set, 1 if it is not."""
    pattern = re.compile(rf"^\s*\[*\s*{re.escape(key)}\b")
    return next(
        (number for number, line in enumerate(text.splitlines(), 1) if key and pattern.match(line)), 1
    )


def _value(value: str | int) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
