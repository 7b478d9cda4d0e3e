"""The request parameters that chat and text completions share. Strict: nothing is coerced, nothing ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from openllm.engines.base import Sampling

_INT64 = 2**63
StopText = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
# A value that changes nothing, for parameters that clients send by habit and that have no other value here.
Off = Literal[False] | None


class Body(BaseModel):
    """A request body or a part of it: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class StreamOptions(Body):
    """``stream_options``."""

    include_usage: bool = False
    include_obfuscation: Off = None


class Parameters(Body):
    """How answers are sampled and sent. ``None`` means the default, as in OpenAI's API."""

    model: str = Field(description="A name of the served model, as in /v1/models.")
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: int | None = Field(default=1, ge=1, le=128, description="How many answers to each prompt.")
    temperature: float | None = Field(default=1.0, ge=0, le=2, description="0 is greedy.")
    top_p: float | None = Field(default=1.0, gt=0, le=1)
    presence_penalty: float | None = Field(default=0.0, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=0.0, ge=-2, le=2)
    seed: int | None = Field(default=None, ge=-_INT64, lt=_INT64)
    stop: StopText | Annotated[list[StopText], Field(max_length=16)] | None = None
    user: str | None = Field(default=None, description="Accepted; nothing depends on it.")

    top_k: int | None = Field(default=0, ge=-1, description="0 or -1: off. Beyond OpenAI's API.")
    min_p: float | None = Field(default=0.0, ge=0, le=1, description="Beyond OpenAI's API.")
    repetition_penalty: float | None = Field(default=1.0, gt=0, le=10, description="Beyond OpenAI's API.")
    min_tokens: int | None = Field(default=0, ge=0, description="Beyond OpenAI's API.")
    ignore_eos: bool | None = Field(default=False, description="Do not stop by itself. Beyond OpenAI's API.")
    stop_token_ids: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=64)] | None = None

    logit_bias: Annotated[dict[str, Any], Field(max_length=0)] | None = None

    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    def wants_usage(self) -> bool:
        """Does a stream end with a chunk that holds the usage?"""
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(self, max_tokens: int, end_ids: tuple[int, ...], choice: int) -> Sampling:
        """For the ``choice``-th answer: its seed is the request's seed plus its index. ``end_ids`` end a turn."""
        stop_ids = () if self.ignore_eos else end_ids
        return Sampling(
            max_tokens=max_tokens,
            temperature=_or(self.temperature, 1.0),
            top_p=_or(self.top_p, 1.0),
            top_k=max(0, self.top_k or 0),
            min_p=self.min_p or 0.0,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            repetition_penalty=_or(self.repetition_penalty, 1.0),
            seed=None if self.seed is None else (self.seed + choice) % _INT64,
            stop_ids=(*stop_ids, *(self.stop_token_ids or ())),
            min_tokens=min(self.min_tokens or 0, max_tokens),
        )


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


class Function(Body):
    """A function that the model may call; ``parameters`` is the JSON Schema of its arguments."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(Body):
    """One of ``tools``."""

    type: Literal["function"]
    function: Function


class FunctionName(Body):
    """The function of a named ``tool_choice``."""

    name: str


class NamedTool(Body):
    """``tool_choice`` that names a function."""

    type: Literal["function"]
    function: FunctionName


class TextFormat(Body):
    """``response_format``: plain text."""

    type: Literal["text"]


class JsonObjectFormat(Body):
    """``response_format``: any JSON object."""

    type: Literal["json_object"]


class NamedSchema(Body):
    """A JSON Schema with a name."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    schema_: dict[str, Any] = Field(default_factory=dict, alias="schema")
    strict: bool | None = None


class JsonSchemaFormat(Body):
    """``response_format``: JSON of a schema; enforced whether ``strict`` or not."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


class StructuredOutputs(Body):
    """``structured_outputs``, beyond OpenAI's API, named as vLLM names it: exactly one of its keys."""

    regex: str | None = None
    choice: Annotated[list[str], Field(min_length=1)] | None = None
    grammar: str | None = None
    json_: dict[str, Any] | str | None = Field(default=None, alias="json")
    json_object: Literal[True] | None = None


ToolChoice = Literal["none", "auto", "required"] | NamedTool
ResponseFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]


class ChatRequest(Parameters):
    """``POST /v1/chat/completions``."""

    messages: list[dict[str, Any]] = Field(min_length=1, fail_fast=True)
    max_completion_tokens: int | None = Field(
        default=None, ge=1, description="Default: what the context leaves."
    )
    max_tokens: int | None = Field(default=None, ge=1, description="Older name of max_completion_tokens.")

    logprobs: Off = None
    top_logprobs: Literal[0] | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=0)] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None
    response_format: TextFormat | None = None
    modalities: list[Literal["text"]] | None = None
    metadata: dict[str, str] | None = None
    safety_identifier: str | None = Field(default=None, description="Accepted; nothing depends on it.")
    prompt_cache_key: str | None = Field(
        default=None, description="Accepted; equal beginnings are found without it."
    )
    store: Off = None
    service_tier: Literal["auto", "default"] | None = None

    def answer_tokens(self) -> int | None:
        """The longest answer asked for, in tokens."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens


# One error of a long list is enough, and each costs some microseconds.
Ids = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, fail_fast=True)]
Texts = Annotated[list[str], Field(min_length=1, max_length=2048, fail_fast=True)]
ListsOfIds = Annotated[list[Ids], Field(min_length=1, max_length=2048, fail_fast=True)]


class CompletionRequest(Parameters):
    """``POST /v1/completions``."""

    prompt: str | Ids | Texts | ListsOfIds
    max_tokens: int | None = Field(default=16, ge=1)

    logprobs: Literal[0] | None = Field(default=None, description="Not implemented.")
    echo: Off = None
    suffix: Literal[""] | None = None
    best_of: int | None = Field(default=None, ge=1, le=128, description="Not implemented beyond n.")

    def prompts(self) -> list[str | list[int]]:
        """Each prompt by itself: text, or token ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [self.prompt]
        return list(self.prompt)

    def answer_tokens(self) -> int:
        """The longest answer asked for, in tokens."""
        return 16 if self.max_tokens is None else self.max_tokens
