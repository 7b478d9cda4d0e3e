"""The body of ``POST /v1/messages``, and the chat request that it means.

Shapes follow Anthropic's API reference for Messages. Strict, as everywhere: what is not implemented is refused by name.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from openllm.api.dialect import FieldNames, Translation, clients_tool
from openllm.api.messages.blocks import chat_messages
from openllm.api.parameters import Body, KeepAlive, Off, StopText
from openllm.errors import RequestError

_NAMES = {
    "max_completion_tokens": "max_tokens",
    "stop": "stop_sequences",
    "response_format": "output_config.format",
    "response_format.json_schema": "output_config.format",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
}


class CacheControl(Body):
    """``cache_control``: accepted; equal prefixes are found by themselves."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class TextBlock(Body):
    """One of the blocks of ``system``."""

    type: Literal["text"]
    text: str
    cache_control: CacheControl | None = None
    citations: None = None


class Turn(Body):
    """One of ``messages``."""

    role: Literal["user", "assistant", "system"]
    content: str | list[dict[str, Any]]


class ClientTool(Body):
    """One of ``tools``: a tool that runs at the client's."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,128}$")]
    input_schema: dict[str, Any]
    type: Literal["custom"] | None = None
    description: str | None = None
    strict: bool | None = None
    cache_control: CacheControl | None = None
    eager_input_streaming: bool | None = Field(default=None, description="Accepted; input always streams.")
    defer_loading: Off = None

    @model_validator(mode="before")
    @classmethod
    def _is_custom(cls, value: object) -> object:
        return clients_tool(value, "custom", "declare custom tools")

    def chat(self) -> dict[str, Any]:
        """As chat has it."""
        function = {"name": self.name, "description": self.description, "strict": self.strict}
        given = {key: value for key, value in function.items() if value is not None}
        return {"type": "function", "function": {**given, "parameters": self.input_schema}}


class AnyChoice(Body):
    """``tool_choice``: the model decides (auto), or must call some tool (any)."""

    type: Literal["auto", "any"]
    disable_parallel_tool_use: bool | None = None


class NamedChoice(Body):
    """``tool_choice``: this tool."""

    type: Literal["tool"]
    name: str
    disable_parallel_tool_use: bool | None = None


class NoChoice(Body):
    """``tool_choice``: no tool."""

    type: Literal["none"]


class ThinkingOn(Body):
    """``thinking``: the model thinks first. The budget is what it should do with, in tokens; nothing stops it there
    but ``max_tokens``."""

    type: Literal["enabled"]
    budget_tokens: int = Field(ge=1024)
    display: None = None


class ThinkingOff(Body):
    """``thinking``: the model answers at once."""

    type: Literal["disabled"]


class ThinkingAdaptive(Body):
    """``thinking``: as the model does by itself, which is also the default."""

    type: Literal["adaptive"]
    display: None = None


class OutputSchema(Body):
    """``output_config.format``."""

    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(Body):
    """``output_config``."""

    effort: Literal["low", "medium", "high", "xhigh"] | None = None
    format: OutputSchema | None = None


class RequestMetadata(Body):
    """``metadata``."""

    user_id: str | None = Field(default=None, description="Accepted; nothing depends on it.")


class MessageInput(Body):
    """What decides the prompt."""

    model: str = Field(description="A name of the served model, as in /v1/models.")
    messages: Annotated[list[Turn], Field(min_length=1, fail_fast=True)]
    system: str | list[TextBlock] | None = None
    tools: Annotated[list[ClientTool], Field(fail_fast=True)] | None = None
    tool_choice: Annotated[AnyChoice | NamedChoice | NoChoice, Field(discriminator="type")] | None = None
    thinking: Annotated[ThinkingOn | ThinkingOff | ThinkingAdaptive, Field(discriminator="type")] | None = (
        None
    )
    output_config: OutputConfig | None = None
    cache_control: CacheControl | None = None

    def translate(self) -> Translation:
        """The chat request. Raises ``RequestError`` with the names of this body."""
        names = FieldNames(_NAMES)
        names.add("reasoning_effort", "output_config.effort" if self._effort() else "thinking")
        turns = [(turn.role, turn.content) for turn in self.messages]
        messages = chat_messages(self._system(), turns, names)
        return Translation({"model": self.model, "messages": messages, **self._options(names)}, names)

    def _system(self) -> list[str]:
        if self.system is None:
            return []
        return [self.system] if isinstance(self.system, str) else [block.text for block in self.system]

    def _effort(self) -> str | None:
        return self.output_config.effort if self.output_config else None

    def _options(self, names: FieldNames) -> dict[str, Any]:
        """Chat's fields besides the messages, only those that were given."""
        last = len(self.messages) - 1
        names.add("continue_final_message", f"messages[{last}]")
        thinks = self.thinking
        values: dict[str, Any] = {"reasoning_effort": self._effort()}
        if isinstance(thinks, ThinkingOff):
            values["reasoning_effort"] = "none"
        elif isinstance(thinks, ThinkingOn) and self._effort() is None:
            values["reasoning_effort"] = "medium"
        if self.messages[last].role == "assistant":
            values["continue_final_message"] = True
        if self.tools:
            values["tools"] = [tool.chat() for tool in self.tools]
            for index in range(len(self.tools)):
                names.add_tool(index, index, "input_schema")
        values.update(self._choice())
        if self.output_config and self.output_config.format:
            schema = {"name": "output", "schema": self.output_config.format.schema_, "strict": True}
            values["response_format"] = {"type": "json_schema", "json_schema": schema}
        return {name: value for name, value in values.items() if value is not None}

    def _choice(self) -> dict[str, Any]:
        match self.tool_choice:
            case None:
                return {}
            case NoChoice():
                return {"tool_choice": "none"}
            case NamedChoice(name=name) as choice:
                value: object = {"type": "function", "function": {"name": name}}
            case AnyChoice() as choice:
                value = "required" if choice.type == "any" else "auto"
        parallel = {"parallel_tool_calls": False} if choice.disable_parallel_tool_use else {}
        return {"tool_choice": value, **parallel}


class MessageRequest(MessageInput):
    """``POST /v1/messages``."""

    max_tokens: int = Field(ge=1, description="The longest answer; less where the context leaves less.")
    stream: bool | None = False
    stop_sequences: Annotated[list[StopText], Field(max_length=16)] | None = None
    temperature: float | None = Field(default=None, ge=0, le=1, description="Default 1; 0 is greedy.")
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0, description="0: off.")
    metadata: RequestMetadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    keep_alive: KeepAlive = None

    def _options(self, names: FieldNames) -> dict[str, Any]:
        if isinstance(self.thinking, ThinkingOn) and self.thinking.budget_tokens >= self.max_tokens:
            raise RequestError(
                "thinking.budget_tokens must be less than max_tokens.",
                hint="Raise max_tokens.",
                param="thinking.budget_tokens",
            )
        values = super()._options(names)
        for name in ("temperature", "top_p", "top_k", "keep_alive"):
            values[name] = getattr(self, name)
        values["max_completion_tokens"] = self.max_tokens
        values["stop"] = self.stop_sequences or None
        return {name: value for name, value in values.items() if value is not None}


class CountTokensRequest(MessageInput):
    """``POST /v1/messages/count_tokens``."""
