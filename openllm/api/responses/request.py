"""The body of ``POST /v1/responses``, and the chat request that it means.

Shapes follow OpenAI's API reference for Responses. Strict, as everywhere: what is not implemented is refused by name.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from openllm.api.dialect import FieldNames, Translation, clients_tool
from openllm.api.parameters import Body, KeepAlive, Off, ReasoningEffort
from openllm.api.responses.items import Item, chat_messages

LOGPROBS = "message.output_text.logprobs"
_NAMES = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "response_format.json_schema": "text.format",
    "reasoning_effort": "reasoning.effort",
    "logprobs": "include",
}
MetadataText = Annotated[str, StringConstraints(max_length=512)]
Metadata = Annotated[
    dict[Annotated[str, StringConstraints(max_length=64)], MetadataText], Field(max_length=16)
]


class ResponseFunction(Body):
    """One of ``tools``: a function of the client's."""

    type: Literal["function"]
    name: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = True
    defer_loading: Off = None

    @model_validator(mode="before")
    @classmethod
    def _is_function(cls, value: object) -> object:
        return clients_tool(value, "function", "declare functions")

    def chat(self) -> dict[str, Any]:
        """As chat has it."""
        function = self.model_dump(exclude_none=True, exclude={"type", "defer_loading"})
        return {"type": "function", "function": function}


class NamedFunction(Body):
    """``tool_choice`` that names a function; also one of the allowed ones."""

    type: Literal["function"]
    name: str


class AllowedFunctions(Body):
    """``tool_choice`` that leaves only some of the functions."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedFunction], Field(min_length=1)]


class PlainFormat(Body):
    """``text.format``: any text."""

    type: Literal["text"]


class ObjectFormat(Body):
    """``text.format``: any JSON object."""

    type: Literal["json_object"]


class SchemaFormat(Body):
    """``text.format``: JSON of a schema."""

    type: Literal["json_schema"]
    name: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None

    def chat(self) -> dict[str, Any]:
        """As chat has it."""
        schema = self.model_dump(by_alias=True, exclude_none=True, exclude={"type"})
        return {"type": "json_schema", "json_schema": schema}


class TextOptions(Body):
    """``text``."""

    format: Annotated[PlainFormat | ObjectFormat | SchemaFormat, Field(discriminator="type")] | None = None
    verbosity: Literal["medium"] | None = None


class ReasoningOptions(Body):
    """``reasoning``. The reasoning itself is in the answer, so there are no summaries of it."""

    effort: ReasoningEffort | None = None
    summary: None = None
    generate_summary: None = None


class ObfuscationOptions(Body):
    """``stream_options``."""

    include_obfuscation: Off = None


class ResponseInput(Body):
    """What decides the prompt."""

    model: str = Field(description="A name of the served model, as in /v1/models.")
    input: str | Annotated[list[dict[str, Any]], Field(min_length=1, fail_fast=True)] = Field(
        description="A text, or items: messages, function calls and their outputs, reasoning."
    )
    instructions: str | None = Field(default=None, description="Goes first; not kept for the next response.")
    previous_response_id: str | None = Field(default=None, description="Go on from a stored response.")
    tools: Annotated[list[ResponseFunction], Field(fail_fast=True)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedFunction | AllowedFunctions | None = None
    parallel_tool_calls: bool | None = None
    reasoning: ReasoningOptions | None = None
    text: TextOptions | None = None
    truncation: Literal["disabled"] | None = None
    conversation: None = None

    def translate(self, history: list[Item], own: list[Item]) -> Translation:
        """The chat request for ``history`` and this request's ``own`` input items after it.

        Raises ``RequestError`` with the names of this body.
        """
        names = FieldNames(_NAMES)
        messages = chat_messages(self.instructions, history, own, names, text=isinstance(self.input, str))
        names.add("messages", "input")
        return Translation({"model": self.model, "messages": messages, **self._options(names)}, names)

    def _options(self, names: FieldNames) -> dict[str, Any]:
        """Chat's fields besides the messages, only those that were given."""
        values: dict[str, Any] = {}
        choice = self.tool_choice
        tools = list(enumerate(self.tools or ()))
        if isinstance(choice, AllowedFunctions):
            allowed = {function.name for function in choice.tools}
            tools = [(index, tool) for index, tool in tools if tool.name in allowed]
            choice = choice.mode
        if tools:
            values["tools"] = [tool.chat() for _, tool in tools]
            for place, (index, _) in enumerate(tools):
                names.add_tool(place, index, "parameters")
        if isinstance(choice, NamedFunction):
            choice_value: object = {"type": "function", "function": {"name": choice.name}}
        else:
            choice_value = choice
        values["tool_choice"] = choice_value
        values["parallel_tool_calls"] = self.parallel_tool_calls
        values["reasoning_effort"] = self.reasoning.effort if self.reasoning else None
        values["response_format"] = self._format()
        return {name: value for name, value in values.items() if value is not None}

    def _format(self) -> dict[str, Any] | None:
        chosen = self.text.format if self.text else None
        if chosen is None or isinstance(chosen, PlainFormat):
            return None
        return chosen.chat() if isinstance(chosen, SchemaFormat) else {"type": "json_object"}


class ResponseRequest(ResponseInput):
    """``POST /v1/responses``."""

    stream: bool | None = False
    stream_options: ObfuscationOptions | None = None
    background: bool | None = Field(default=False, description="Answer later: fetch the response by its id.")
    store: bool | None = Field(default=True, description="Keep it, in memory, to be fetched or gone on from.")
    max_output_tokens: int | None = Field(default=None, ge=1, description="Default: what the context leaves.")
    max_tool_calls: int | None = Field(
        default=None, ge=1, description="Accepted; it counts built-in tools, of which there are none."
    )
    temperature: float | None = Field(default=1.0, ge=0, le=2, description="0 is greedy.")
    top_p: float | None = Field(default=1.0, gt=0, le=1)
    include: list[Literal["message.output_text.logprobs"]] | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    metadata: Metadata | None = None
    user: str | None = Field(default=None, description="Accepted; nothing depends on it.")
    safety_identifier: str | None = Field(default=None, description="Accepted; nothing depends on it.")
    prompt_cache_key: str | None = Field(
        default=None, description="Accepted; equal prefixes are found by themselves."
    )
    prompt_cache_retention: Literal["in_memory"] | None = None
    service_tier: Literal["auto", "default"] | None = None

    top_k: int | None = Field(default=None, ge=-1, description="0 or -1: off. Beyond OpenAI's API.")
    min_p: float | None = Field(default=None, ge=0, le=1, description="Beyond OpenAI's API.")
    repetition_penalty: float | None = Field(default=None, gt=0, le=10, description="Beyond OpenAI's API.")
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63, description="Beyond OpenAI's API.")
    keep_alive: KeepAlive = None

    @property
    def kept(self) -> bool:
        """Is the response to be stored?"""
        return self.store is not False

    def _options(self, names: FieldNames) -> dict[str, Any]:
        values = super()._options(names)
        for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed", "keep_alive"):
            values[name] = getattr(self, name)
        values["max_completion_tokens"] = self.max_output_tokens
        if LOGPROBS in (self.include or ()) or self.top_logprobs:
            values["logprobs"] = True
            values["top_logprobs"] = self.top_logprobs or 0
        return {name: value for name, value in values.items() if value is not None}


class InputTokensRequest(ResponseInput):
    """``POST /v1/responses/input_tokens``: how long would the prompt be?"""
