"""What is checked of every guide, whatever engine compiles it. Quick: it runs in ``Engine.add``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from openllm.engines.base import Generation, Guide
from openllm.errors import RequestError, quoted

MOST_BYTES = 64 << 10
MOST_DEPTH = 32
MOST_CHOICES = 1000
_TYPES = frozenset(("string", "number", "integer", "boolean", "null", "array", "object"))


def check_guide(request: Generation, guide: Guide) -> None:
    """Raise ``RequestError``, naming the part, for a guide that cannot be compiled or cannot be followed."""
    sampling = request.sampling
    if not sampling.stop_ids:
        raise wrong(guide, "there must be an end token: it says when the answer is complete", "ignore_eos")
    if sampling.min_tokens:
        raise wrong(guide, "the answer may be complete before min_tokens", "min_tokens")
    if len(guide.text.encode()) > MOST_BYTES:
        raise wrong(guide, f"it is over {MOST_BYTES >> 10} KiB")
    if "\0" in guide.text:
        raise wrong(guide, "it holds a NUL character")
    match guide.kind:
        case "json_schema":
            check_schema(guide, read(guide))
        case "choice":
            _check_choices(guide, read(guide))
        case "regex" | "grammar" if not guide.text.strip():
            raise wrong(guide, "it is empty")
        case _:
            pass


def wrong(guide: Guide, why: str, param: str | None = None) -> RequestError:
    """The error that says why a guide is not taken."""
    what = {"json_schema": "JSON schema", "json_object": "JSON object"}.get(guide.kind, guide.kind)
    return RequestError(f"The {what} of {guide.source} cannot be used: {why}.", param=param or guide.source)


def read(guide: Guide) -> Any:
    """The JSON of the guide's text. Raises ``RequestError``."""
    try:
        return msgspec.json.decode(guide.text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise wrong(guide, f"it is not JSON ({error})") from error


def check_schema(guide: Guide, schema: Any, path: str = "#", depth: int = 0) -> None:
    """Walk a schema. Raise ``RequestError`` for what is no schema, naming the place as a JSON pointer."""
    if depth > MOST_DEPTH:
        raise wrong(guide, f"it is nested deeper than {MOST_DEPTH} levels at {path[:200]}")
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        raise wrong(guide, f"{path} must be an object")
    _check_type(guide, schema.get("type"), path)
    if "enum" in schema:
        _check_kind(guide, schema["enum"], list, f"{path}/enum")
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise wrong(guide, f"{path}/required must be a list of names")
    for place, part in parts(guide, schema, path):
        check_schema(guide, part, place, depth + 1)


def parts(guide: Guide, schema: dict[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """The schemas inside a schema and where they stand. Raises ``RequestError`` where there should be some."""
    for key, value in schema.items():
        here = f"{path}/{key}"
        if key in _MAPS_OF_SCHEMAS:
            _check_kind(guide, value, dict, here)
            yield from ((f"{here}/{name}", part) for name, part in value.items())
        elif key in _LISTS_OF_SCHEMAS:
            _check_kind(guide, value, list, here)
            yield from ((f"{here}/{index}", part) for index, part in enumerate(value))
        elif key in _SCHEMAS:
            yield here, value


def _check_kind(guide: Guide, value: Any, kind: type, place: str) -> None:
    if not isinstance(value, kind):
        raise wrong(guide, f"{place} must be {'an object' if kind is dict else 'a list'}")
    if kind is list and not value:
        raise wrong(guide, f"{place} is empty")


_MAPS_OF_SCHEMAS = frozenset(("properties", "patternProperties", "$defs", "definitions", "dependentSchemas"))
_LISTS_OF_SCHEMAS = frozenset(("anyOf", "oneOf", "allOf", "prefixItems"))
_SCHEMAS = frozenset(
    ("items", "additionalProperties", "additionalItems", "unevaluatedItems", "unevaluatedProperties",
     "propertyNames", "contains", "not", "if", "then", "else")
)  # fmt: skip


def _check_type(guide: Guide, kind: Any, path: str) -> None:
    if kind is None:
        return
    for one in kind if isinstance(kind, list) and kind else [kind]:
        if not isinstance(one, str) or one not in _TYPES:
            raise wrong(guide, f"{path}/type is {quoted(one)}, not one of {', '.join(sorted(_TYPES))}")


def _check_choices(guide: Guide, choices: Any) -> None:
    if not isinstance(choices, list) or not 1 <= len(choices) <= MOST_CHOICES:
        raise wrong(guide, f"it must be a list of 1 to {MOST_CHOICES} texts")
    if not all(isinstance(choice, str) and choice for choice in choices):
        raise wrong(guide, "each must be a text that is not empty")
