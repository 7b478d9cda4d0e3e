"""One recipe file: read as text, and only when needed parsed and validated.

Parsing with PyYAML and validating costs milliseconds a file; reading its text costs microseconds. So the text
answers first whether a file could hold a name at all.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from openllm.errors import InvalidRecipe
from openllm.recipes import schema
from openllm.recipes.names import normal

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # PyYAML without libyaml: the same answers, ten times slower
    from yaml import SafeLoader  # type: ignore[assignment]

_Place = tuple[str | int, ...]

# The entry whose keys stand below a key; a source's tag in pydantic's location stands for its class.
_ENTRIES: dict[str, type[schema.Entry]] = {
    "": schema.Family,
    "models": schema.Model,
    "shape": schema.Shape,
    "chat": schema.Chat,
    "variants": schema.Variant,
    "hub": schema.HubSource,
    "embedding": schema.Embedding,
    "pypi": schema.PypiSource,
    "pypi_folder": schema.PypiFolderSource,
    "files": schema.WheelFile,
    "path": schema.PathSource,
}

# Lines that speak of models without naming one of the file's own.
_NAMELESS = re.compile(r"^\s*(#|title:|publisher:|license:|tools:|reasoning:).*$", re.MULTILINE)


class _Loader(SafeLoader):
    """Sequences become tuples, as the strict schema wants them."""


def _tuple(loader: _Loader, node: yaml.SequenceNode) -> tuple[Any, ...]:
    return tuple(loader.construct_sequence(node, deep=True))


_Loader.add_constructor("tag:yaml.org,2002:seq", _tuple)


@dataclass(frozen=True)
class RecipeFile:
    """A file of a recipes folder. ``text`` is None when it could not be read, and ``unread`` says why."""

    path: Path
    text: str | None
    unread: str = ""

    @staticmethod
    def open(path: Path) -> RecipeFile:
        """Read the file's text. Never raises: ``family()`` tells what is wrong."""
        try:
            return RecipeFile(path, path.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            return RecipeFile(path, None, f"not UTF-8 text: {error.reason} at byte {error.start}")
        except OSError as error:
            return RecipeFile(path, None, error.strerror or str(error))

    @property
    def stem(self) -> str:
        return normal(self.path.stem)

    @cached_property
    def _normal_text(self) -> str:
        return _NAMELESS.sub("", normal(self.text or ""))

    def could_hold(self, name: str) -> bool:
        """False only if no name of this file can be ``name`` (normal form). Parses nothing.

        A name is looked for as a whole word outside comments and titles, so that a broken recipe of a
        fine-tune does not stand in the way of the model that it was made from.
        """
        if name == self.stem or name.startswith((f"{self.stem}:", f"{self.stem}-")):
            return True
        base = name.partition(":")[0]
        if base not in self._normal_text:
            return False
        whole = rf"(?<![\w./:-]){re.escape(base)}(?![\w./-])"
        return re.search(whole, self._normal_text) is not None

    @cached_property
    def family(self) -> schema.Family:
        """The validated recipe. Raises InvalidRecipe that names file, line and key."""
        if self.text is None:
            raise self.error(self.unread, line=None)
        node, data = self._parse(self.text)
        try:
            family = schema.Family.model_validate(data)
        except ValidationError as error:
            raise self._located(node, error) from None
        if family.family != self.path.stem:
            message = f"family is '{family.family}' but the file is named '{self.path.stem}'"
            raise self.error(message, line=_line(node, ("family",)), place=("family",))
        return family

    def line_of(self, *place: str | int) -> int:
        """The line (from 1) of a key of a valid file; of the nearest key above it if it is not there."""
        node, _ = self._parse(self.text or "")
        return _line(node, place)

    def error(self, message: str, *, line: int | None, place: _Place = ()) -> InvalidRecipe:
        """An error of this file; ``place`` leads to the key from the file's top."""
        where = str(self.path) if line is None else f"{self.path}:{line}"
        key = _dotted(place)
        return InvalidRecipe(
            f"{where}: {key}: {message}" if key else f"{where}: {message}",
            hint="Mend that line, or move the file away; models/schema.json describes every key.",
            param=key or None,
        )

    def _parse(self, text: str) -> tuple[yaml.Node, Any]:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if not isinstance(node, yaml.MappingNode):
                raise self.error("a recipe is a mapping that starts with family:", line=1)
            # Before construction, which takes the last of two and unfolds merge keys into the nodes.
            for place, line in _repeated_keys(node):
                raise self.error("the key is given twice", line=line, place=place)
            return node, loader.construct_document(node)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            problem = error.problem or "not YAML"
            raise self.error(f"not YAML: {problem}", line=mark.line + 1 if mark else None) from None
        except (yaml.YAMLError, ValueError) as error:
            raise self.error(f"not YAML: {str(error).splitlines()[0]}", line=None) from None
        finally:
            loader.dispose()

    def _located(self, node: yaml.Node, error: ValidationError) -> InvalidRecipe:
        """The first error in the file's order, with a count of the others."""
        details = error.errors()
        # A misspelt key is also the lack of the right one: tell it once.
        unknown = [detail for detail in details if detail["type"] == "extra_forbidden"]
        faults = sorted((_fault(node, detail) for detail in unknown or details), key=lambda fault: fault.line)
        faults = [fault for fault in faults if not any(_is_under(other, fault) for other in faults)]
        first = faults[0]
        more = f" (and {len(faults) - 1} more in this file)" if len(faults) > 1 else ""
        return self.error(first.message + more, line=first.line, place=first.place)


@dataclass(frozen=True)
class _Fault:
    line: int
    place: _Place
    message: str


def _fault(node: yaml.Node, detail: ErrorDetails) -> _Fault:
    loc = detail["loc"] + tuple(detail.get("ctx", {}).get("at", ()))
    place = _without_tags(loc)
    return _Fault(_line(node, place), place, _said(detail, loc))


def _is_under(fault: _Fault, other: _Fault) -> bool:
    """Pydantic counts a broken item as missing, and so reports the list above it as too short."""
    return len(fault.place) > len(other.place) and fault.place[: len(other.place)] == other.place


def _without_tags(loc: _Place) -> _Place:
    """The location without the name of the source's kind that pydantic puts after ``source``."""
    return tuple(part for index, part in enumerate(loc) if index == 0 or loc[index - 1] != "source")


def _said(detail: ErrorDetails, loc: _Place) -> str:
    kind = detail["type"]
    if kind == "extra_forbidden":
        above = next((part for part in reversed(loc[:-1]) if isinstance(part, str)), "")
        known = list(_ENTRIES[above].model_fields)
        near = difflib.get_close_matches(str(loc[-1]), known, n=1, cutoff=0.5)
        return "unknown key" + (f"; did you mean '{near[0]}'?" if near else f"; known are {', '.join(known)}")
    if kind == "missing":
        return "the key is missing"
    if kind in ("misfit", "source_kind"):
        return detail["msg"]
    said = detail["msg"][0].lower() + detail["msg"][1:]
    return f"{said}, not {detail['input']!r}" if _is_short(detail["input"]) else said


def _is_short(value: Any) -> bool:
    return isinstance(value, str | int | float | bool | None) and len(str(value)) <= 60


def _dotted(place: _Place) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.removeprefix(".")


def _line(node: yaml.Node, place: _Place) -> int:
    """The line of the key at ``place``, or of the deepest part of the way that is there. From 1."""
    line = node.start_mark.line + 1
    for part in place:
        if isinstance(node, yaml.MappingNode):
            found = next((pair for pair in node.value if pair[0].value == part), None)
            if found is None:
                return line
            key, node = found
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            return line
    return line


def _repeated_keys(top: yaml.Node) -> Iterator[tuple[_Place, int]]:
    """Keys that stand twice in one mapping: YAML would silently take the last."""
    walked: set[int] = set()  # an anchored node is reached once for every alias, or for ever
    ahead: list[tuple[yaml.Node, _Place]] = [(top, ())]
    while ahead:
        node, place = ahead.pop()
        if id(node) in walked:
            continue
        walked.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            ahead += [(child, (*place, index)) for index, child in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    continue  # the schema refuses it as a key
                if key.value in seen:
                    yield (*place, key.value), key.start_mark.line + 1
                seen.add(key.value)
                ahead.append((value, (*place, key.value)))
