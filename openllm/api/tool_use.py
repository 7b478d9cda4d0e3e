"""What a request's tools come to: which functions may be called, whether one must be, and how often."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from openllm.api.parameters import ChatRequest, FunctionTool, JsonObjectFormat, JsonSchemaFormat, NamedTool
from openllm.chat.json_schema import schema_fault
from openllm.engines.base import Guide
from openllm.errors import RequestError, quoted

_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}
_NO_ARGUMENTS: dict[str, Any] = {**_NO_PARAMETERS, "additionalProperties": False}


class ToolUse(msgspec.Struct, frozen=True):
    """``shown`` is what the model is told, as chat templates take it; ``schemas`` are those of the parameters, by the
    functions' names. ``forced``: the answer must be calls, of the function ``name`` if that is not None.
    ``answer`` is the schema of an answer that is no call, an object, where the request has one. ``most_calls`` None is
    without limit.
    """

    shown: list[dict[str, Any]]
    schemas: dict[str, dict[str, Any]]
    forced: bool = False
    name: str | None = None
    answer: dict[str, Any] | None = None
    most_calls: int | None = None

    @property
    def guided(self) -> bool:
        """Is the answer held to a form of ours?"""
        return self.forced or self.answer is not None

    def guide(self) -> Guide | None:
        """What a guided answer must look like: the arguments where the function is known, else calls, or the answer.
        None for another one.

        The form is ours, not the model's, as every engine can hold an answer to a JSON Schema.
        """
        if not self.guided:
            return None
        if self.name is not None:
            return Guide("json_schema", json.dumps(self.schemas[self.name]), "tools")
        definitions: dict[str, Any] = {}
        # A list of calls differs from the answer, an object, in its first character.
        whole = self._calls(definitions, listed=self.most_calls != 1 or self.answer is not None)
        source = "tools"
        if self.answer is not None:
            whole = {"anyOf": [whole, _moved(self.answer, "answer", definitions)]}
            source = "response_format"
        return Guide(
            "json_schema", json.dumps({**whole, "$defs": definitions} if definitions else whole), source
        )

    def _calls(self, definitions: dict[str, Any], *, listed: bool) -> dict[str, Any]:
        calls = [
            _call_schema(name, _moved(schema, f"tool{index}", definitions))
            for index, (name, schema) in enumerate(self.schemas.items())
        ]
        call = calls[0] if len(calls) == 1 else {"anyOf": calls}
        if not listed:
            return call
        most = {} if self.most_calls is None else {"maxItems": self.most_calls}
        return {"type": "array", "items": call, "minItems": 1, **most}


def tool_use(request: ChatRequest) -> ToolUse | None:
    """None where the model shall not call: without tools, and with ``tool_choice`` none, which keeps the tools from
    the model. Raises ``RequestError`` for tools and choices that cannot be."""
    tools = request.tools or []
    choice = request.tool_choice
    for index, tool in enumerate(tools):
        _check(tool, index, tools)
    if not tools:
        if choice not in (None, "auto", "none"):
            raise RequestError(
                "tool_choice needs tools.", hint="Send tools, or leave it out.", param="tool_choice"
            )
        return None
    if choice == "none":
        return None
    _refuse_structured_outputs(request)
    use = ToolUse(
        shown=[_shown(tool) for tool in tools],
        schemas={tool.function.name: _arguments(tool) for tool in tools},
        most_calls=1 if request.parallel_tool_calls is False else None,
    )
    if choice == "required":
        return msgspec.structs.replace(use, forced=True)
    if not isinstance(choice, NamedTool):
        return msgspec.structs.replace(use, answer=_answer(request))
    name = choice.function.name
    if name not in use.schemas:
        raise RequestError(
            f"tool_choice names the function {quoted(name)}, which is not in tools.",
            hint=f"Name one of {', '.join(sorted(use.schemas))}.",
            param="tool_choice",
        )
    return msgspec.structs.replace(use, forced=True, name=name, most_calls=1)


def _refuse_structured_outputs(request: ChatRequest) -> None:
    if request.structured_outputs is not None:
        raise RequestError(
            "structured_outputs says what the whole answer must look like, so there can be no calls in it.",
            hint='Use tool_choice "none" where content is wanted and "required" where a call is, or leave one out.',
            param="structured_outputs",
        )


def _check(tool: FunctionTool, index: int, tools: list[FunctionTool]) -> None:
    function = tool.function
    where = f"tools[{index}].function"
    if any(other.function.name == function.name for other in tools[:index]):
        raise RequestError(
            f"{where}.name is {function.name!r} for a second time.",
            hint="Give every function a name of its own.",
            param=f"{where}.name",
        )
    schema = function.parameters or _NO_PARAMETERS
    fault = schema_fault(schema)
    if not fault and schema.get("type", "object") != "object":
        fault = "#/type must be object"
    if fault:
        raise RequestError(
            f"{where}.parameters is no JSON Schema of an object: {fault}.",
            hint="Correct the schema.",
            param=f"{where}.parameters",
        )


def _answer(request: ChatRequest) -> dict[str, Any] | None:
    """The schema of an answer that is no call."""
    match request.response_format:
        case JsonObjectFormat():
            return {"type": "object"}
        case JsonSchemaFormat(json_schema=named):
            schema = named.schema_
        case _:
            return None
    fault = schema_fault(schema)
    if not fault and schema.get("type") != "object":
        fault = "#/type must be object, to tell an answer from a call"
    if fault:
        where = "response_format.json_schema.schema"
        raise RequestError(f"{where} cannot be used: {fault}.", hint="Correct the schema.", param=where)
    return schema


def _shown(tool: FunctionTool) -> dict[str, Any]:
    """A tool as it was sent. Some templates fail without a description or parameters, so these are always there."""
    sent = tool.function.model_dump(exclude_unset=True)
    function = {"name": sent.pop("name"), "description": sent.pop("description", None) or "", **sent}
    function["parameters"] = tool.function.parameters or _NO_PARAMETERS
    return {"type": "function", "function": function}


def _arguments(tool: FunctionTool) -> dict[str, Any]:
    """The schema that forced arguments are held to. Without parameters none are meant, though to JSON Schema any
    object would do, and a model that may write anything may go on with it until it is cut."""
    parameters = tool.function.parameters or _NO_PARAMETERS
    return _NO_ARGUMENTS if parameters == _NO_PARAMETERS else parameters


def _call_schema(name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"name": {"type": "string", "enum": [name]}, "parameters": parameters},
        "required": ["name", "parameters"],
        "additionalProperties": False,
    }


def _moved(schema: dict[str, Any], name: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """A schema for use within another one: if it refers to its own parts, it moves to the definitions."""
    changed = _with_references(schema, f"#/$defs/{name}")
    if changed == schema:
        return schema
    definitions[name] = changed
    return {"$ref": f"#/$defs/{name}"}


def _with_references(value: Any, root: str) -> Any:
    if isinstance(value, list):
        return [_with_references(part, root) for part in value]
    if not isinstance(value, dict):
        return value
    return {
        key: root + part[1:]
        if key == "$ref" and isinstance(part, str) and part.startswith("#")
        else _with_references(part, root)
        for key, part in value.items()
    }
