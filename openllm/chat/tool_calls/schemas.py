"""What type an argument has, by the JSON Schema of its function: for formats that write every value as a text."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

Tools = Mapping[str, Mapping[str, Any]]
"""The functions that may be called: the JSON Schemas of their parameters by their names."""

_DEPTH = 8
_JSON_TYPES: dict[type, tuple[str, ...]] = {
    bool: ("boolean",), int: ("integer", "number"), float: ("number",), str: ("string",), dict: ("object",),
    list: ("array",), type(None): ("null",),
}  # fmt: skip
# Templates that write values by Jinja's own rules show the models Python's words.
_WORDS = {"True": True, "False": False, "None": None}


def argument_types(schema: Mapping[str, Any], name: str) -> frozenset[str]:
    """The JSON types that the schema of a function's parameters allows for ``name``; empty if it does not tell."""
    properties = schema.get("properties")
    entry = properties.get(name) if isinstance(properties, Mapping) else None
    return frozenset(_types(entry, schema, _DEPTH))


def typed_value(text: str, types: frozenset[str]) -> object:
    """The value that ``text`` stands for: the text itself where only a string will do, otherwise what it says as
    JSON if the types allow that, and the text if nothing else fits."""
    if types == {"string"}:
        return text
    value = _read(text.strip())
    if value is not _NOTHING and (not types or types.intersection(_JSON_TYPES[type(value)])):
        return value
    return text


_NOTHING = object()


def _read(text: str) -> object:
    if text in _WORDS:
        return _WORDS[text]
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        return _NOTHING


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise ValueError(number)
    return value


def _refuse(constant: str) -> None:
    raise ValueError(constant)  # NaN and Infinity are no JSON


def _types(entry: object, root: Mapping[str, Any], depth: int) -> set[str]:
    if not isinstance(entry, Mapping) or not depth:
        return set()
    if isinstance(entry.get("$ref"), str):
        return _types(_target(entry["$ref"], root), root, depth - 1)
    kind = entry.get("type")
    if isinstance(kind, str):
        return {kind}
    if isinstance(kind, list):
        return {name for name in kind if isinstance(name, str)}
    if "const" in entry or isinstance(entry.get("enum"), list):
        values = entry["enum"] if "enum" in entry else [entry["const"]]
        return {_JSON_TYPES.get(type(value), ("object",))[0] for value in values}
    members = [
        _types(member, root, depth - 1)
        for key in ("anyOf", "oneOf", "allOf")
        if isinstance(entry.get(key), list)
        for member in entry[key]
    ]
    return set().union(*members) if all(members) else set()  # a member that may be anything leaves it open


def _target(reference: str, root: Mapping[str, Any]) -> object:
    """What a reference into the same schema points to (RFC 6901)."""
    here: object = root
    for part in reference.removeprefix("#").split("/")[1:]:
        here = here.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(here, Mapping) else None
    return here
