"""The part of JSON Schema that GenAI's grammar compiler enforces; what it would ignore is refused."""

from __future__ import annotations

from typing import Any

from openllm.engines.base import Guide
from openllm.engines.guides import parts, read, wrong

_NOTES = frozenset(
    ("title", "description", "default", "examples", "example", "deprecated", "readOnly", "writeOnly", "$schema",
     "$id", "$comment", "$anchor")
)  # fmt: skip
_ENFORCED = frozenset(
    ("type", "properties", "required", "additionalProperties", "items", "prefixItems", "minItems", "maxItems",
     "enum", "const", "anyOf", "allOf", "oneOf", "$ref", "$defs", "definitions", "minimum", "maximum",
     "exclusiveMinimum", "exclusiveMaximum", "pattern", "minLength", "maxLength", "format")
)  # fmt: skip


def check_keywords(guide: Guide) -> None:
    """Raise ``RequestError`` for a schema with a keyword that would not be enforced, naming its place."""
    if guide.kind == "json_schema":
        _check(guide, read(guide), "#")


def _check(guide: Guide, schema: Any, path: str) -> None:
    if not isinstance(schema, dict):
        return
    for key in schema:
        if key not in _ENFORCED and key not in _NOTES:
            raise wrong(guide, f"the openvino engine does not enforce {path}/{key}")
    for place, part in parts(guide, schema, path):
        _check(guide, part, place)
