"""Grammars of schemas take the documents that the schemas take, whatever white space is in them, up to an end."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from openllm.engines.json_grammar import OBJECT, json_grammar

llguidance = pytest.importorskip("llguidance")

NODE = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "kids": {"type": "array", "items": {"$ref": "#"}}},
    "required": ["name"],
}
MANY = {
    "type": "object",
    "title": "Many",
    "properties": {name: {"type": "integer"} for name in "abcd"},
    "required": ["b", "d"],
}
OPTIONAL = {
    "type": "object",
    "properties": {"a": {"type": "null"}, "b": {"type": "boolean"}, "c": {}},
}
DOCUMENTS: list[Any] = [
    None, True, 0, -1, 1, 7, 151, 1.5, 1.5e-7, "", "a", "abc", 'q"\\\n\u00e9\U0001f999', [], [1], [1, 2], ["a"],
    [[]], {},
    {"name": "a"}, {"name": "a", "kids": []}, {"name": "a", "kids": [{"name": "b", "kids": [{"name": "c"}]}]},
    {"name": "a", "kids": [{}]}, {"kids": []}, {"a": 1, "b": 2, "c": 3, "d": 4}, {"b": 2, "d": 4}, {"a": 1, "b": 2},
    {"b": 2, "c": 3, "d": 4}, {"a": None}, {"a": None, "b": True}, {"b": False, "c": [{"x": 1}]}, {"a": None, "z": 1.5},
    {"z": 1, "y": 2}, {"c": {}, "z": 1}, {"x": "p"}, {"x": 3}, {"x": "other"},
]  # fmt: skip
SCHEMAS: list[Any] = [
    True, {}, {"type": "string"}, {"type": "string", "minLength": 1, "maxLength": 2}, {"type": "integer"},
    {"type": "integer", "minimum": 0}, {"type": "integer", "exclusiveMinimum": 0},
    {"type": "integer", "minimum": -1, "maximum": 150}, {"type": "number"}, {"type": "boolean"}, {"type": "null"},
    {"type": ["string", "null"]}, {"anyOf": [{"type": "integer"}, {"type": "array"}]}, {"const": "a"},
    {"enum": ["a", 7, None, 'q"\\\n\u00e9\U0001f999']}, {"type": "string", "enum": ["a", "abc"]},
    {"type": "array", "items": {"type": "integer"}}, {"type": "array", "minItems": 1},
    {"type": "array", "items": {}, "minItems": 1, "maxItems": 1}, {"type": "array", "minItems": 2}, {"type": "object"},
    NODE, MANY, OPTIONAL, {**MANY, "additionalProperties": False},
    {"type": "object", "additionalProperties": {"type": "integer"}},
    {"type": "object", "properties": {"x": {"$ref": "#/$defs/P"}}, "$defs": {"P": {"enum": ["p", 3]}}},
    {"allOf": [{"$ref": "#/definitions/N"}], "definitions": {"N": {"type": "object", "properties": {}}}},
]  # fmt: skip
OTHERS: list[Any] = [
    False, {**MANY, "additionalProperties": True}, {"type": "string", "pattern": "a+"},
    {"type": "string", "format": "date"},    {"$ref": "#"}, {"not": {}},
    {"anyOf": [{"$ref": "#"}, {"type": "null"}]}, {"type": "integer", "multipleOf": 3}, {"$ref": "#/$defs/none"},
    {"type": "object", "minProperties": 1}, {"type": "array", "prefixItems": [{}]},
    {"type": "string", "maxLength": 9999},
    {"type": "object", "patternProperties": {"a": {}}}, {"type": "string", "enum": [1]},
    {"type": "object", "required": ["a"]},
]  # fmt: skip


def takes(grammar: str, text: str) -> bool:
    """Does the grammar take the whole text? Asked of llguidance, which reads the same EBNF."""
    tokenizer = llguidance.LLTokenizer("byte")
    matcher = llguidance.LLMatcher(tokenizer, llguidance.grammar_from("grammar", grammar), log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    taken = matcher.consume_tokens(tokenizer.tokenize_str(text))
    return bool(taken and matcher.is_accepting())


def closed(schema: Any) -> Any:
    """The schema as it is meant: objects that name properties have no others unless they say so."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    if schema.get("type") == "object" and schema.get("properties"):
        made.setdefault("additionalProperties", False)
    return made


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_it_takes_what_the_schema_takes(schema: Any) -> None:
    grammar = json_grammar(schema)
    assert grammar is not None
    validator = jsonschema.Draft202012Validator(closed(schema))
    taken = 0
    for document in DOCUMENTS:
        valid = validator.is_valid(document)
        taken += valid
        for layout in ({"separators": (",", ":")}, {"indent": 2}):
            text = json.dumps(document, ensure_ascii=False, **layout)
            assert takes(grammar, text) == valid, text
    assert taken > 0


@pytest.mark.parametrize("schema", OTHERS, ids=str)
def test_the_others_are_left_to_the_engine(schema: Any) -> None:
    assert json_grammar(schema) is None


def test_white_space_ends() -> None:
    assert takes(OBJECT, '{\n  "a": [1, {"b": null}]\n}')
    assert not takes(OBJECT, "{" + " " * 33 + "}")
    assert not takes(OBJECT, "[]")
    grammar = json_grammar(NODE)
    assert grammar is not None
    assert not takes(grammar, '{"name":' + " " * 33 + '"a"}')
