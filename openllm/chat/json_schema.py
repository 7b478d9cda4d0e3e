"""Is an object a JSON Schema? The shape of the keywords, as the meta-schema of draft 2020-12 has it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from openllm.errors import quoted

_TYPES = frozenset(("array", "boolean", "integer", "null", "number", "object", "string"))
_SCHEMAS = frozenset(
    ("additionalProperties", "contains", "contentSchema", "else", "if", "not", "propertyNames", "then",
     "unevaluatedItems", "unevaluatedProperties")
)  # fmt: skip
_LISTS = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
_MAPS = frozenset(("$defs", "definitions", "dependentSchemas", "patternProperties", "properties"))
_COUNTS = frozenset(
    ("maxContains", "maxItems", "maxLength", "maxProperties", "minContains", "minItems", "minLength",
     "minProperties")
)  # fmt: skip
_NUMBERS = frozenset(("exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum", "multipleOf"))
_TEXTS = frozenset(
    ("$anchor", "$comment", "$id", "$ref", "$schema", "description", "format", "pattern", "title")
)
MOST_DEPTH = 64


def schema_fault(schema: object) -> str:
    """What is wrong with it, beginning with the place (``#/properties/city/type ...``); "" if nothing is."""
    return next(_faults(schema, "#", 0), "")


def _faults(schema: object, at: str, depth: int) -> Iterator[str]:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping):
        yield f"{at} must be an object"
    elif depth > MOST_DEPTH:
        yield f"{at[:200]} is nested deeper than {MOST_DEPTH} levels"
    else:
        for key, value in schema.items():
            yield from _entry(key, value, f"{at}/{key}", depth)


def _entry(key: str, value: Any, at: str, depth: int) -> Iterator[str]:
    if key in _SCHEMAS:
        yield from _faults(value, at, depth + 1)
    elif key in _MAPS:
        yield from _map(value, at, depth)
    elif key in _LISTS:
        yield from _list(value, at, depth)
    elif key == "items":  # a list of schemas before draft 2020-12
        yield from _list(value, at, depth) if isinstance(value, list) else _faults(value, at, depth + 1)
    else:
        fault = _plain(key, value)
        if fault:
            yield f"{at} {fault}"


def _map(value: Any, at: str, depth: int) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{at} must be an object"
        return
    for name, part in value.items():
        yield from _faults(part, f"{at}/{name}", depth + 1)


def _list(value: Any, at: str, depth: int) -> Iterator[str]:
    if not isinstance(value, list) or not value:
        yield f"{at} must be a list of schemas"
        return
    for index, part in enumerate(value):
        yield from _faults(part, f"{at}/{index}", depth + 1)


def _plain(key: str, value: Any) -> str:
    """What is wrong with a keyword that holds no schemas."""
    if key == "type":
        kinds = value if isinstance(value, list) and value else [value]
        return (
            ""
            if all(isinstance(kind, str) and kind in _TYPES for kind in kinds)
            else f"is {quoted(value)}, no type"
        )
    if key == "required":
        texts = isinstance(value, list) and all(isinstance(name, str) for name in value)
        return "" if texts else "must be a list of names"
    if key == "enum":
        return "" if isinstance(value, list) and value else "must be a list that is not empty"
    if key in _COUNTS:
        return (
            "" if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else "must be a count"
        )
    if key in _NUMBERS:
        return "" if isinstance(value, int | float) and not isinstance(value, bool) else "must be a number"
    if key in _TEXTS and not isinstance(value, str):
        return "must be a text"
    return "is no regular expression" if key == "pattern" and not _is_pattern(value) else ""


def _is_pattern(text: str) -> bool:
    """Can it be read as one? JSON Schema's are JavaScript's; Python does not know all of those."""
    if "\\p" in text or "(?<" in text or "\\c" in text or "\\u{" in text:
        return True
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError):
        return False
    return True
