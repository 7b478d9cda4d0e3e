from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator, SchemaError

from openllm.chat.json_schema import schema_fault
from openllm.chat.tool_calls.schemas import argument_types, typed_value

GOOD: list[Any] = [
    {},
    True,
    {"type": "object", "properties": {"a": {"type": ["string", "null"]}}, "required": ["a"]},
    {"anyOf": [{"$ref": "#/$defs/x"}, {"const": 5}], "$defs": {"x": {"enum": [1, "a", None]}}},
    {"type": "array", "items": {"type": "integer", "minimum": 0.5}, "minItems": 1, "uniqueItems": True},
    {"type": "string", "pattern": "^[a-z]+$", "maxLength": 4, "format": "email", "x-own": [1]},
    {"prefixItems": [{}, False], "additionalProperties": False, "not": {"type": "null"}},
]
BAD: list[tuple[Any, str]] = [
    ([], "#"),
    ("object", "#"),
    ({"type": "objekt"}, "#/type"),
    ({"type": ["string", 5]}, "#/type"),
    ({"type": []}, "#/type"),
    ({"properties": []}, "#/properties"),
    ({"properties": {"a": "string"}}, "#/properties/a"),
    ({"items": {"type": 5}}, "#/items/type"),
    ({"anyOf": []}, "#/anyOf"),
    ({"anyOf": [{"enum": 5}]}, "#/anyOf/0/enum"),
    ({"required": "a"}, "#/required"),
    ({"minItems": -1}, "#/minItems"),
    ({"minimum": "1"}, "#/minimum"),
    ({"pattern": "("}, "#/pattern"),
    ({"$ref": 5}, "#/$ref"),
]


@pytest.mark.parametrize("schema", GOOD)
def test_schemas_are_taken(schema: Any) -> None:
    Draft202012Validator.check_schema(schema)
    assert schema_fault(schema) == ""


@pytest.mark.parametrize(("schema", "at"), BAD)
def test_faults_are_named(schema: Any, at: str) -> None:
    if schema not in ({"pattern": "("}, {"anyOf": [{"enum": 5}]}):  # their checks depend on optional packages
        with pytest.raises(SchemaError):
            Draft202012Validator.check_schema(schema)
    assert schema_fault(schema).startswith(f"{at} ")


def test_depth_is_bounded() -> None:
    schema: dict[str, Any] = {}
    for _ in range(2000):
        schema = {"items": schema}
    assert "nested deeper" in schema_fault(schema)


ROOT = {
    "properties": {
        "text": {"type": "string"},
        "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "open": {"anyOf": [{"type": "string"}, {}]},
        "kind": {"enum": ["a", "b"]},
        "number": {"const": 5},
        "place": {"$ref": "#/$defs/pla~1ce"},
        "loop": {"$ref": "#/properties/loop"},
        "gone": {"$ref": "#/$defs/gone"},
    },
    "$defs": {"pla/ce": {"type": "object"}},
}


@pytest.mark.parametrize(
    ("name", "types"),
    [
        ("text", {"string"}),
        ("maybe", {"string", "null"}),
        ("open", set()),
        ("kind", {"string"}),
        ("number", {"integer"}),
        ("place", {"object"}),
        ("loop", set()),
        ("gone", set()),
        ("absent", set()),
    ],
)
def test_types_of_arguments(name: str, types: set[str]) -> None:
    assert argument_types(ROOT, name) == types


@pytest.mark.parametrize(
    ("text", "types", "value"),
    [
        ("12", {"string"}, "12"),
        ("12", {"integer"}, 12),
        (" 12\n", set(), 12),
        ("12", {"string", "null"}, "12"),
        ("null", {"string", "null"}, None),
        ("True", {"boolean"}, True),
        ("True", set(), True),
        ("5", {"number"}, 5),
        ('{"a": 1}', {"object"}, {"a": 1}),
        ("not json", {"object"}, "not json"),
        ("NaN", set(), "NaN"),
        ("1e999", set(), "1e999"),
        ("[" * 100_000, set(), "[" * 100_000),
    ],
)
def test_texts_become_values(text: str, types: set[str], value: object) -> None:
    found = typed_value(text, frozenset(types))
    assert found == value
    assert type(found) is type(value)
