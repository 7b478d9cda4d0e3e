"""What the routes of ``/v1/responses`` answer, for the OpenAPI document. The answers are made in ``body`` and
``events``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class TokenChance(BaseModel):
    """A token and the logarithm of its probability; ``bytes`` are its UTF-8."""

    token: str
    bytes: list[int]
    logprob: float


class ChosenToken(TokenChance):
    """A token of the answer, and the likeliest ones in its place."""

    top_logprobs: list[TokenChance]


class InputText(BaseModel):
    """A text of the input."""

    type: Literal["input_text"]
    text: str


class InputImage(BaseModel):
    """An image of the input."""

    type: Literal["input_image"]
    image_url: str
    detail: Any


class OutputText(BaseModel):
    """A text of the model's."""

    type: Literal["output_text"]
    text: str
    annotations: list[dict[str, Any]] = Field(description="Always empty: no tool here cites anything.")
    logprobs: list[ChosenToken]


class Refusal(BaseModel):
    """A refusal, as it was sent in the input."""

    type: Literal["refusal"]
    refusal: str


class ReasoningText(BaseModel):
    """What the model thought."""

    type: Literal["reasoning_text"]
    text: str


class Item(BaseModel):
    """An item of the input or the output."""

    id: str
    status: ItemStatus


class OutputMessage(Item):
    """What the model said."""

    type: Literal["message"]
    role: Literal["assistant"]
    content: list[OutputText]


class Reasoning(Item):
    """What the model thought before it answered. There are no summaries but those that a client sends."""

    type: Literal["reasoning"]
    summary: list[Any]
    content: list[ReasoningText]


class FunctionCall(Item):
    """A call that the model wants made; ``arguments`` is JSON in a string."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str


class InputMessage(Item):
    """A message of the conversation."""

    type: Literal["message"]
    role: Literal["user", "system", "developer", "assistant"]
    content: list[InputText | InputImage | OutputText | Refusal]


class FunctionCallOutput(Item):
    """What a call brought."""

    type: Literal["function_call_output"]
    call_id: str
    output: str | list[InputText | InputImage | OutputText | Refusal]


class InputTokensDetails(BaseModel):
    """Of the prompt's tokens: those found in the prefix cache; writing to it is not counted."""

    cached_tokens: int
    cache_write_tokens: Literal[0]


class OutputTokensDetails(BaseModel):
    """Of the answer's tokens: those of its reasoning."""

    reasoning_tokens: int


class ResponseUsage(BaseModel):
    """Tokens of the prompt and the answer."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class ResponseError(BaseModel):
    """What ended a response that failed."""

    code: Literal["server_error", "invalid_prompt", "rate_limit_exceeded"]
    message: str


class IncompleteDetails(BaseModel):
    """Why a response is incomplete."""

    reason: Literal["max_output_tokens"]


class UsedReasoning(BaseModel):
    """``reasoning`` of the request."""

    effort: str | None
    summary: None


class UsedFormat(BaseModel):
    """``text.format`` of the request; all but the type is of ``json_schema``."""

    type: Literal["text", "json_object", "json_schema"]
    name: str = Field(default="", description="Only of json_schema.")
    schema_: dict[str, Any] = Field(default={}, alias="schema", description="Only of json_schema.")
    description: str = Field(default="", description="Only of json_schema.")
    strict: bool = Field(default=False, description="Only of json_schema.")


class UsedText(BaseModel):
    """``text`` of the request."""

    format: UsedFormat
    verbosity: Literal["medium"]


class UsedFunction(BaseModel):
    """One of ``tools`` of the request."""

    type: Literal["function"]
    name: str
    description: str | None
    parameters: dict[str, Any] | None
    strict: bool | None


class UsedName(BaseModel):
    """``tool_choice`` of the request: a function."""

    type: Literal["function"]
    name: str


class UsedNames(BaseModel):
    """``tool_choice`` of the request: some of the functions."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: list[UsedName]


class ResponseObject(BaseModel):
    """OpenAI's ``response``: what was asked for with the defaults in place, and what came of it."""

    id: str
    object: Literal["response"]
    created_at: int = Field(description="Seconds since 1970.")
    completed_at: int | None = Field(description="Seconds since 1970.")
    status: Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
    error: ResponseError | None
    incomplete_details: IncompleteDetails | None
    output: list[OutputMessage | Reasoning | FunctionCall]
    usage: ResponseUsage | None
    background: bool
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    metadata: dict[str, str]
    model: str
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: UsedReasoning
    safety_identifier: str | None
    service_tier: Literal["default"]
    store: bool
    temperature: float
    text: UsedText
    tool_choice: Literal["none", "auto", "required"] | UsedName | UsedNames
    tools: list[UsedFunction]
    top_logprobs: int
    top_p: float
    truncation: Literal["disabled"]
    user: str | None


class DeletedResponse(BaseModel):
    """The answer to a deletion."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


class InputItemList(BaseModel):
    """A page of the input; the ids are empty where it is."""

    object: Literal["list"]
    data: list[InputMessage | FunctionCall | FunctionCallOutput | Reasoning]
    first_id: str
    last_id: str
    has_more: bool


class InputTokens(BaseModel):
    """How long the prompt is."""

    object: Literal["response.input_tokens"]
    input_tokens: int
