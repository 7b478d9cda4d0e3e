"""Reads OpenAPI documents: what a schema takes, and in what real values differ from one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

Schema = dict[str, Any]
_NAME = "urn:document"
_ALL = frozenset(("string", "integer", "number", "boolean", "array", "object", "null"))


class Document:
    """One OpenAPI document."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = _modern(content)
        resource = Resource.from_contents(self.content, default_specification=DRAFT202012)
        self._registry: Registry[Any] = Registry().with_resource(_NAME, resource)

    def request(self, path: str, method: str) -> Schema | None:
        """The schema of a route's body, or of its form."""
        body = self.content["paths"].get(path, {}).get(method, {}).get("requestBody")
        if body is None:
            return None
        contents = body["content"]
        found: Schema = (contents.get("application/json") or contents["multipart/form-data"])["schema"]
        return found

    def query(self, path: str, method: str) -> dict[str, Schema]:
        """A route's query parameters."""
        found = self.content["paths"].get(path, {}).get(method, {}).get("parameters", [])
        return {each["name"]: each.get("schema", {}) for each in found if each["in"] == "query"}

    def resolve(self, schema: Schema) -> Schema:
        """Behind the reference, if it is one."""
        while "$ref" in schema:
            target: Any = self.content
            for part in schema["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            schema = target
        return schema

    def properties(self, schema: Schema) -> dict[str, Schema]:
        """Of an object, its parts together."""
        schema = self.resolve(schema)
        found: dict[str, Schema] = {}
        for part in (*schema.get("allOf", ()), *schema.get("anyOf", ()), *schema.get("oneOf", ())):
            found |= self.properties(part)
        found.update(schema.get("properties", {}))
        return found

    def types(self, schema: Schema) -> frozenset[str]:
        """The JSON types that it takes; integers are numbers."""
        schema = self.resolve(schema)
        if "const" in schema or "enum" in schema:
            values = schema["enum"] if "enum" in schema else [schema["const"]]
            found = frozenset(map(_type_of, values))
        elif "allOf" in schema:
            found = frozenset.intersection(*(self.types(part) for part in schema["allOf"]))
        elif "anyOf" in schema or "oneOf" in schema:
            parts = schema.get("anyOf") or schema["oneOf"]
            found = frozenset().union(*(self.types(part) for part in parts))
        elif "type" in schema:
            named = schema["type"]
            found = frozenset([named] if isinstance(named, str) else named)
        else:
            found = frozenset(["object"]) if "properties" in schema else _ALL
        return found | {"integer"} if "number" in found else found

    def values(self, schema: Schema) -> frozenset[Any] | None:
        """The only values that it, or its items, may have, null aside; None if there is no such list."""
        schema = self.resolve(schema)
        if "items" in schema:
            return self.values(schema["items"])
        parts = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
        if parts:
            lists = [self.values(part) for part in parts if self.types(part) != {"null"}]
            known = [each for each in lists if each is not None]
            return frozenset().union(*known) if known and len(known) == len(lists) else None
        if "const" in schema:
            return frozenset([schema["const"]]) - {None}
        return frozenset(schema["enum"]) - {None} if "enum" in schema else None

    def differences(self, name: str, value: Any) -> set[str]:
        """How a real value differs from the schema of that name: paths, each with what is wrong there."""
        reference = f"#/components/schemas/{name}"
        validator = Draft202012Validator({"$ref": f"{_NAME}{reference}"}, registry=self._registry)
        found = {f"{_path(error)}: {_wrong(error)}" for error in _leaves(validator.iter_errors(value))}
        return found | {f"{path}: more" for path in self._extra({"$ref": reference}, value, "$")}

    def _extra(self, schema: Schema, value: Any, path: str) -> Iterator[str]:
        """Properties of a value that its schema does not know."""
        known = self.properties(schema)
        resolved = self.resolve(schema)
        if isinstance(value, dict) and known:
            for key, each in value.items():
                if key not in known:
                    yield f"{path}.{key}"
                else:
                    yield from self._extra(known[key], each, f"{path}.{key}")
        elif isinstance(value, list) and "items" in resolved:
            for each in value:
                yield from self._extra(resolved["items"], each, f"{path}[]")


def _modern(schema: Any) -> Any:
    """With ``nullable``, which JSON Schema does not know, said as it can be said there."""
    if isinstance(schema, list):
        return [_modern(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _modern(each) for key, each in schema.items() if key != "nullable"}
    return {"anyOf": [found, {"type": "null"}]} if schema.get("nullable") is True else found


def _leaves(errors: Iterator[ValidationError]) -> Iterator[ValidationError]:
    """Of a union, the errors of the member that fits best."""
    for error in errors:
        if not error.context:
            yield error
            continue
        branches: dict[Any, list[ValidationError]] = {}
        for inner in error.context:
            branches.setdefault(inner.schema_path[0], []).append(inner)
        yield from _leaves(iter(sorted(branches.values(), key=len)[0]))


def _path(error: ValidationError) -> str:
    return "$" + "".join("[]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)


def _wrong(error: ValidationError) -> str:
    if error.validator == "required":
        return str(error.message).replace("'", "")
    return "null" if error.instance is None else str(error.validator)


def _type_of(value: Any) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return "null" if value is None else names[type(value)]
