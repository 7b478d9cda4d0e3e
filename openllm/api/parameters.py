"""The request parameters that chat and text completions share. Strict: nothing is coerced, nothing ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    PrivateAttr,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from openllm.engines.base import Guide, Sampling
from openllm.errors import RequestError, UsageError
from openllm.fleet.duration import from_number, parse_duration

_INT64 = 2**63
MOST_TOOLS = 512
_LONGEST_DURATION = 32
TokenId = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}$")]
StopText = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
# A value that changes nothing, for parameters that clients send by habit and that have no other value here.
Off = Literal[False] | None


def _seconds(value: object) -> float | None:
    """Seconds of a number or a text. Raises ``PydanticCustomError``."""
    if value is None:
        return None
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return from_number(float(value))
        if isinstance(value, str) and len(value) <= _LONGEST_DURATION:
            return parse_duration(value)
    except (UsageError, OverflowError):  # an integer of JSON may be larger than any float
        pass
    raise PydanticCustomError("duration", "send seconds, or a text like 30s, 5m, 1h or -1")


_DURATION = {"anyOf": [{"type": "number"}, {"type": "string", "examples": ["5m"]}, {"type": "null"}]}
KeepAlive = Annotated[
    float | None,
    PlainValidator(_seconds),
    WithJsonSchema(_DURATION),
    Field(
        description="How long the model stays loaded afterwards: seconds, or a text like 5m; 0 unloads it, -1 never"
        " does. Holds until a request says otherwise or the model is unloaded. Beyond the API of others."
    ),
]


class Body(BaseModel):
    """A request body or a part of it: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


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

    @model_validator(mode="after")
    def _one_key(self) -> StructuredOutputs:
        if len(self.model_dump(exclude_none=True)) != 1:
            raise ValueError("exactly one of regex, choice, grammar, json and json_object must be given")
        return self

    def guide(self) -> Guide:
        """What it asks for."""
        if self.regex is not None:
            return Guide("regex", self.regex, "structured_outputs.regex")
        if self.choice is not None:
            return Guide("choice", _json(self.choice), "structured_outputs.choice")
        if self.grammar is not None:
            return Guide("grammar", self.grammar, "structured_outputs.grammar")
        if self.json_ is not None:
            text = self.json_ if isinstance(self.json_, str) else _json(self.json_)
            return Guide("json_schema", text, "structured_outputs.json")
        return Guide("json_object", "", "structured_outputs.json_object")


ResponseFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


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

    logit_bias: (
        Annotated[dict[TokenId, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=1024)] | None
    ) = Field(default=None, description="What is added to the logits of token ids.")
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = Field(
        default=None, description="Or one of these. Beyond OpenAI's API."
    )

    keep_alive: KeepAlive = None
    progress: bool | None = Field(
        default=False, description="Tell a stream that waits what it waits for. Beyond OpenAI's API."
    )

    def check(self) -> None:
        """Raise ``RequestError`` for parameters that do not go together."""

    def sequences(self) -> int:
        """How many answers are generated to each prompt."""
        return self.n or 1

    def option_names(self) -> dict[str, tuple[str, str]]:
        """What an engine's words for an option are in a refusal of this request: words, and a field's name."""
        return {}

    def answer_logprobs(self) -> int | None:
        """How many likeliest tokens are told at each place of an answer; None if nothing is."""
        return None

    def guide(self) -> Guide | None:
        """What the whole answer must look like. Raises ``RequestError`` if two things are asked for."""
        if self.structured_outputs is not None:
            if self.response_format is not None and not isinstance(self.response_format, TextFormat):
                raise RequestError(
                    "response_format and structured_outputs both say what the answer must look like.",
                    hint="Leave one of them out.",
                    param="structured_outputs",
                )
            return self.structured_outputs.guide()
        match self.response_format:
            case JsonObjectFormat():
                return Guide("json_object")
            case JsonSchemaFormat(json_schema=named):
                return Guide("json_schema", _json(named.schema_), "response_format.json_schema.schema")
            case _:
                return None

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
            logprobs=self.answer_logprobs(),
            logit_bias=tuple((int(token), bias) for token, bias in (self.logit_bias or {}).items()),
            guide=self.guide(),
        )


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


class Function(Body):
    """A function that the model may call; ``parameters`` is the JSON Schema of its arguments.

    They are held to it where ``tool_choice`` forces the call, ``strict`` or not; otherwise they are what the model
    wrote.
    """

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


ToolChoice = Literal["none", "auto", "required"] | NamedTool
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class ChatRequest(Parameters):
    """``POST /v1/chat/completions``."""

    messages: list[dict[str, Any]] = Field(min_length=1, fail_fast=True)
    max_completion_tokens: int | None = Field(
        default=None, ge=1, description="Default: what the context leaves."
    )
    max_tokens: int | None = Field(default=None, ge=1, description="Older name of max_completion_tokens.")

    logprobs: bool | None = Field(default=False, description="Tell the content's tokens. Needs vLLM.")
    top_logprobs: int | None = Field(
        default=None, ge=0, le=20, description="And as many likeliest ones at each place."
    )
    tools: Annotated[list[FunctionTool], Field(max_length=MOST_TOOLS)] | None = None
    tool_choice: ToolChoice | None = Field(default=None, description="Default: auto with tools, else none.")
    parallel_tool_calls: bool | None = Field(default=True, description="False: at most one call an answer.")
    reasoning_effort: ReasoningEffort | None = Field(
        default=None, description="Given to the chat template; where that only knows on and off, none is off."
    )
    chat_template_kwargs: dict[str, Any] | None = Field(
        default=None, description="Switches of the model's chat template. Beyond OpenAI's API."
    )
    add_generation_prompt: bool | None = Field(
        default=None,
        description="Begin a new turn. Default: unless continue_final_message. Beyond OpenAI's API.",
    )
    continue_final_message: bool | None = Field(
        default=False, description="Go on with the last message, an assistant's. Beyond OpenAI's API."
    )
    modalities: list[Literal["text"]] | None = None
    metadata: dict[str, str] | None = None
    safety_identifier: str | None = Field(default=None, description="Accepted; nothing depends on it.")
    prompt_cache_key: str | None = Field(
        default=None, description="Accepted; equal beginnings are found without it."
    )
    store: Off = None
    service_tier: Literal["auto", "default"] | None = None

    _images: tuple[bytes, ...] = PrivateAttr(())

    @property
    def images(self) -> tuple[bytes, ...]:
        """The images of its messages, in order, once ``api.images.Images`` has brought them."""
        return self._images

    @images.setter
    def images(self, images: tuple[bytes, ...]) -> None:
        self._images = images

    def check(self) -> None:
        if self.top_logprobs and not self.logprobs:
            raise RequestError(
                "top_logprobs needs logprobs.", hint="Set logprobs to true.", param="top_logprobs"
            )

    def answer_logprobs(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None

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
    max_tokens: int | None = Field(default=16, ge=0, description="0 with echo only.")

    logprobs: int | None = Field(
        default=None, ge=0, le=5, description="Tell the tokens, and as many likeliest ones. Needs vLLM."
    )
    echo: bool | None = Field(default=False, description="Put the prompt before the answer.")
    suffix: Literal[""] | None = None
    best_of: int | None = Field(
        default=None,
        ge=1,
        le=128,
        description="Generate as many and give the n with the best mean logprob. Beyond n needs vLLM.",
    )

    @property
    def chooses(self) -> bool:
        """Are more answers generated than given?"""
        return self.sequences() > (self.n or 1)

    def check(self) -> None:
        if self.best_of is not None and self.best_of < (self.n or 1):
            raise RequestError("best_of is less than n.", hint="Ask for at least n.", param="best_of")
        if self.chooses and self.stream:
            raise RequestError(
                "The best answers are known at the end only, so they cannot be streamed.",
                hint="Leave best_of or stream out.",
                param="best_of",
            )
        if self.max_tokens == 0 and not self.echo:
            raise RequestError(
                "max_tokens 0 asks for nothing.", hint="Ask for 1 or more, or set echo.", param="max_tokens"
            )

    def sequences(self) -> int:
        return self.best_of or self.n or 1

    def option_names(self) -> dict[str, tuple[str, str]]:
        names = {"prompt_logprobs": ("logprobs of a prompt (echo)", "logprobs")}
        if self.logprobs is None:
            names["logprobs"] = ("best_of beyond n", "best_of")
        return names

    def answer_logprobs(self) -> int | None:
        return 0 if self.logprobs is None and self.chooses else self.logprobs

    def sampling(self, max_tokens: int, end_ids: tuple[int, ...], choice: int) -> Sampling:
        # An engine generates one token at least, so it is asked for one where none is.
        sampling = super().sampling(max(1, max_tokens), end_ids, choice)
        return msgspec.structs.replace(sampling, prompt_logprobs=self.logprobs) if self.echo else sampling

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
