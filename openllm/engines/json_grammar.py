"""JSON schemas as grammars in which white space ends.

xgrammar's own grammars of schemas allow white space without end between two parts of JSON, and a small model may go on
with it until it is cut. What is written here means the same, for the schemas that programs write; the others are left
to xgrammar. As there, properties come in the order of the schema, and only those that it names unless it says
``additionalProperties`` or names none.
"""

from __future__ import annotations

from typing import Any

import msgspec

_BASE = r"""ws ::= [ \n\r\t]{0,32}
string ::= "\"" char* "\""
char ::= [^"\\\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4})
natural ::= "0" | [1-9] [0-9]*
integer ::= "-"? natural
number ::= integer ("." [0-9]+)? ([eE] [+-]? [0-9]+)?
boolean ::= "true" | "false"
null ::= "null"
value ::= string | number | boolean | null | any-object | any-array
any-member ::= string ws ":" ws value
any-object ::= "{" ws (any-member ws ("," ws any-member ws)*)? "}"
any-array ::= "[" ws (value ws ("," ws value ws)*)? "]"
"""
OBJECT = f"{_BASE}root ::= any-object\n"
"""Any JSON object."""

_SAYS_NOTHING = frozenset(
    ("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "strict",
     "$schema", "$id", "$comment", "$defs", "definitions")
)  # fmt: skip
_PLAIN = {"integer": "integer", "number": "number", "boolean": "boolean", "null": "null"}
_MOST_REPEATED = 64  # a number of repetitions that does not make a grammar large
_MOST_RULES = 2000
_MOST_INTEGERS = 256


class _OtherSchemaError(Exception):
    """The schema says something that is not written here."""


def json_grammar(schema: Any) -> str | None:
    """A grammar in xgrammar's EBNF; None if the schema is not one of those that are written here."""
    try:
        return _Writer(schema).text()
    except _OtherSchemaError:
        return None


class _Writer:
    """Writes the rules of one schema, each schema that is referred to once."""

    def __init__(self, schema: Any) -> None:
        self._whole = schema
        self._rules: list[str] = []
        self._count = 0
        self._names: dict[str, str] = {}  # by pointer
        self._begun: list[str] = []  # pointers that are being written, with nothing of the answer before them

    def text(self) -> str:
        """The whole grammar. Raises ``_OtherSchemaError``."""
        root = self._reference("#")
        return f"{_BASE}{''.join(self._rules)}root ::= {root}\n"

    def _rule(self, body: str, name: str | None = None) -> str:
        """Write a rule, and give its name."""
        name = self._new_name() if name is None else name
        self._rules.append(f"{name} ::= {body}\n")
        return name

    def _new_name(self) -> str:
        self._count += 1
        if self._count > _MOST_RULES:
            raise _OtherSchemaError
        return f"r{self._count}"

    def _reference(self, pointer: str) -> str:
        """The rule of the schema that a pointer leads to."""
        if pointer in self._begun:
            raise _OtherSchemaError  # it means itself
        if pointer not in self._names:
            name = self._names[pointer] = self._new_name()
            self._begun.append(pointer)
            self._rule(self._body(self._found(pointer)), name)
            self._begun.remove(pointer)
        return self._names[pointer]

    def _found(self, pointer: str) -> Any:
        steps = pointer.split("/")
        found = self._whole
        if steps[0] != "#" or "~" in pointer or "%" in pointer:
            raise _OtherSchemaError
        for step in steps[1:]:
            if not isinstance(found, dict) or step not in found:
                raise _OtherSchemaError
            found = found[step]
        return found

    def _schema(self, schema: Any) -> str:
        """What stands for a schema in another rule."""
        body = self._body(schema)
        return body if body.replace("-", "").isalnum() else self._rule(body)

    def _body(self, schema: Any) -> str:
        """What a schema means. Raises ``_OtherSchemaError``."""
        if schema is True:
            return "value"
        if not isinstance(schema, dict):
            raise _OtherSchemaError
        said = {key: value for key, value in schema.items() if key not in _SAYS_NOTHING}
        if not said:
            return "value"
        if "type" in said and isinstance(said["type"], str):
            return self._typed(said.pop("type"), said)
        if len(said) != 1:
            raise _OtherSchemaError
        ((key, value),) = said.items()
        match key:
            case "$ref" if isinstance(value, str):
                return self._reference(value)
            case "const":
                return _literal(value)
            case "enum" if isinstance(value, list) and value:
                return " | ".join(map(_literal, value))
            case "anyOf" | "oneOf" if isinstance(value, list) and value:
                return " | ".join(map(self._schema, value))
            case "type" if isinstance(value, list) and value:
                return " | ".join(self._schema({"type": kind}) for kind in value)
            case "allOf" if isinstance(value, list) and len(value) == 1:
                return self._schema(value[0])
        raise _OtherSchemaError

    def _typed(self, kind: str, said: dict[str, Any]) -> str:
        match kind:
            case "string" if said.keys() == {"enum"} and all(isinstance(each, str) for each in said["enum"]):
                return self._body(said)
            case "string" if said.keys() == {"const"} and isinstance(said["const"], str):
                return self._body(said)
            case "string":
                return self._string(said)
            case "array" | "object":
                outer, self._begun = self._begun, []
                body = self._array(said) if kind == "array" else self._object(said)
                self._begun = outer
                return body
            case "integer" if said:
                return _bounded(said)
            case _ if kind in _PLAIN and not said:
                return _PLAIN[kind]
        raise _OtherSchemaError

    def _string(self, said: dict[str, Any]) -> str:
        if not said:
            return "string"
        least, most = _counts(said, "minLength", "maxLength")
        return rf'"\"" char{{{least},{most}}} "\""'

    def _array(self, said: dict[str, Any]) -> str:
        item = self._schema(said.pop("items", True))
        if not said:
            return f'"[" ws ({item} ws ("," ws {item} ws)*)? "]"'
        least, most = _counts(said, "minItems", "maxItems")
        if most == "0":
            raise _OtherSchemaError
        items = f"{item} ws"
        if most != "1":
            items += f' ("," ws {item} ws){{{max(0, least - 1)},{most and int(most) - 1}}}'
        return f'"[" ws {items} "]"' if least else f'"[" ws ({items})? "]"'

    def _object(self, said: dict[str, Any]) -> str:
        properties = said.pop("properties", {})
        required = said.pop("required", [])
        further = said.pop("additionalProperties", not properties)
        if said or not isinstance(properties, dict) or not set(required) <= properties.keys():
            raise _OtherSchemaError
        if further is not False:
            if properties:
                raise _OtherSchemaError  # a further one must not have the name of another
            member = self._rule(f'string ws ":" ws {self._schema(further)} ws')
            return f'"{{" ws ({member} ("," ws {member})*)? "}}"'
        members = [
            (self._rule(f'{_literal(name)} ws ":" ws {self._schema(part)} ws'), name in required)
            for name, part in properties.items()
        ]
        return f'"{{" ws {self._members(members)} "}}"'

    def _members(self, members: list[tuple[str, bool]]) -> str:
        """All ways to begin: with each member up to the first that is required; then the others may follow."""
        begins: list[str] = []
        after = ""
        for name, needed in reversed(members):
            rest = self._rule(after) if after else ""
            begins = [f"{name} {rest}".strip(), *([] if needed else begins)]
            comma = f'"," ws {name}'
            after = f"{comma} {rest}".strip() if needed else f"({comma})? {rest}".strip()
        if not begins:
            return ""
        return f"({' | '.join(begins)})" + ("" if any(needed for _, needed in members) else "?")


def _counts(said: dict[str, Any], least: str, most: str) -> tuple[int, str]:
    """The least and the most of a schema that says nothing but these."""
    first, last = said.get(least, 0), said.get(most)
    if said.keys() - {least, most} or not _small(first) or not (last is None or _small(last)):
        raise _OtherSchemaError
    if last is not None and last < first:
        raise _OtherSchemaError
    return first, "" if last is None else str(last)


def _bounded(said: dict[str, Any]) -> str:
    """Integers from 0 or 1 on, or a few."""
    if said in ({"minimum": 0}, {"exclusiveMinimum": -1}):
        return "natural"
    if said in ({"minimum": 1}, {"exclusiveMinimum": 0}):
        return "[1-9] [0-9]*"
    least, most = said.get("minimum"), said.get("maximum")
    if said.keys() != {"minimum", "maximum"} or not (isinstance(least, int) and isinstance(most, int)):
        raise _OtherSchemaError
    if not 0 <= most - least <= _MOST_INTEGERS:
        raise _OtherSchemaError
    return " | ".join(f'"{value}"' for value in range(least, most + 1))


def _small(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_REPEATED


def _literal(value: Any) -> str:
    """JSON of a value, as a text in EBNF."""
    return ebnf_text(msgspec.json.encode(value).decode())


def ebnf_text(text: str) -> str:
    """A text in EBNF."""
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    return character if character.isprintable() else f"\\U{ord(character):08x}"
