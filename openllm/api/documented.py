"""What the routes answer, for the OpenAPI document. The answers themselves are written without these classes: they
are on the per-token path."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

Documented = dict[int | str, dict[str, Any]]


class Error(BaseModel):
    """What is wrong, in words, and ``param``: the parameter that it is about."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """Every error has this form."""

    error: Error


class PromptDetails(BaseModel):
    """Of the prompt's tokens: those found in the prefix cache."""

    cached_tokens: int


class AnswerDetails(BaseModel):
    """Of the answer's tokens: those of its reasoning."""

    reasoning_tokens: int


class Usage(BaseModel):
    """Tokens: each prompt once, every choice's answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: AnswerDetails


class CalledFunction(BaseModel):
    """A function and its arguments, as JSON in a string."""

    name: str
    arguments: str


class ToolCall(BaseModel):
    """A call that the model wants made."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class Message(BaseModel):
    """The model's turn."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None


FinishReason = Literal["stop", "length", "tool_calls"]


class ChatChoice(BaseModel):
    """One answer."""

    index: int
    message: Message
    logprobs: dict[str, Any] | None
    finish_reason: FinishReason


class ChatCompletion(BaseModel):
    """OpenAI's ``chat.completion``."""

    id: str
    object: Literal["chat.completion"]
    created: int = Field(description="Seconds since 1970.")
    model: str
    choices: list[ChatChoice]
    usage: Usage


class TextChoice(BaseModel):
    """One continuation."""

    index: int
    text: str
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length"]


class Completion(BaseModel):
    """OpenAI's ``text_completion``."""

    id: str
    object: Literal["text_completion"]
    created: int = Field(description="Seconds since 1970.")
    model: str
    choices: list[TextChoice]
    usage: Usage


class Model(BaseModel):
    """OpenAI's ``model``, the longest prompt with its answer in tokens, and where a LoRA adapter comes from.

    ``root`` is what it was made from, ``parent`` the model that an adapter changes.
    """

    id: str
    object: Literal["model"]
    created: int = Field(description="Seconds since 1970.")
    owned_by: str
    context_length: int
    root: str
    parent: str | None


class ModelList(BaseModel):
    """All models."""

    object: Literal["list"]
    data: list[Model]


class TextUsage(BaseModel):
    """Tokens of texts that were encoded, special ones included."""

    prompt_tokens: int
    total_tokens: int


class Embedding(BaseModel):
    """The vector of one text: numbers, or base64 of them as float32, little endian."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingList(BaseModel):
    """A vector for each text, in their order."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: TextUsage


class RankedText(BaseModel):
    """A document's text."""

    text: str


class Ranked(BaseModel):
    """A document by its place in the request."""

    index: int
    relevance_score: float
    document: RankedText | None = None


class Ranking(BaseModel):
    """Documents, the best first."""

    id: str
    model: str
    results: list[Ranked]
    usage: TextUsage


class Score(BaseModel):
    """Of one pair of texts."""

    object: Literal["score"]
    index: int
    score: float


class ScoreList(BaseModel):
    """A score for each pair, in their order."""

    id: str
    object: Literal["list"]
    created: int = Field(description="Seconds since 1970.")
    model: str
    data: list[Score]
    usage: TextUsage


class Tokens(BaseModel):
    """Token ids, how many, and the longest prompt with its answer; ``token_strs`` if asked for."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


class Detokenized(BaseModel):
    """The text of token ids."""

    prompt: str


class Life(BaseModel):
    """Of ``/livez``."""

    status: Literal["ok"]


class Readiness(BaseModel):
    """Of ``/readyz``: what the engine is doing, in words too."""

    status: Literal["ready", "not ready"]
    state: str
    doing: str


def streamed(whole: type[BaseModel], name: str) -> Documented:
    """A route that answers ``whole``, or with ``stream`` events of ``name``."""
    data = {"type": "string", "description": f"The JSON of a {name}, of an error, or [DONE]."}
    return _streamed(whole, {"data": data})


def streamed_events(whole: type[BaseModel], example: str) -> Documented:
    """A route that answers ``whole``, or with ``stream`` events that have names, such as ``example``."""
    named = {"type": "string", "description": f"The type of the event: {example}, for one."}
    data = {"type": "string", "description": "The JSON of the event, which has the type too."}
    return _streamed(whole, {"event": named, "data": data})


def _streamed(whole: type[BaseModel], fields: dict[str, Any]) -> Documented:
    event = {"type": "object", "required": list(fields), "properties": fields}
    return {200: {"model": whole, "content": {"text/event-stream": {"schema": event}}}}


# The one form of errors, whatever the route; it takes the place of the 422 that FastAPI would document.
ERRORS: Documented = {
    "4XX": {"model": ErrorBody, "description": "The request cannot be served as it is."},
    "5XX": {"model": ErrorBody, "description": "The server or its engine cannot serve it now."},
}
