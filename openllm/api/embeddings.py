"""``POST /v1/embeddings``."""

from __future__ import annotations

import base64
import math
from array import array
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from openllm.api.disconnect import answered
from openllm.api.documented import EmbeddingList
from openllm.api.parameters import Body, Ids, KeepAlive
from openllm.api.served import Served
from openllm.api.service import Service
from openllm.api.side_lane import aside
from openllm.api.strict_json import StrictJsonRoute
from openllm.api.text_encoder import Text, TextEncoder
from openllm.api.vectors import encode

router = APIRouter(route_class=StrictJsonRoute)
MOST_TEXTS = 2048
"""As many as OpenAI takes in one request."""

Truncation = Annotated[
    int | None,
    Field(ge=-1, description="Cut longer texts to so many tokens; -1: to the longest. Beyond OpenAI's API."),
]


def check_input(value: object) -> None:
    """Raise ``PydanticCustomError`` unless ``value`` is a text, a list of texts, token ids, or a list of these."""
    if isinstance(value, str):
        return
    if not isinstance(value, list) or not value:
        raise PydanticCustomError("input", "send a text, texts, token ids or lists of token ids; not none")
    kinds = {type(each) for each in value}
    if len(kinds) != 1 or not kinds <= {str, int, list}:
        raise PydanticCustomError("input", "all of a list must be texts, token ids or lists of token ids")
    if kinds != {int} and len(value) > MOST_TEXTS:
        raise PydanticCustomError("input", f"send at most {MOST_TEXTS} texts in one request")


class EmbeddingRequest(Body):
    """``POST /v1/embeddings``."""

    model: str = Field(description="A name of the served model, as in /v1/models.")
    input: (
        str
        | Ids
        | Annotated[list[str], Field(min_length=1, max_length=MOST_TEXTS)]
        | Annotated[list[Ids], Field(min_length=1, max_length=MOST_TEXTS)]
    )

    @field_validator("input", mode="before")
    @classmethod
    def _one_shape(cls, value: Any) -> Any:
        """Say in one line what is wrong, where a union would tell each of its members' reasons."""
        check_input(value)
        return value

    encoding_format: Literal["float", "base64"] | None = "float"
    dimensions: int | None = Field(
        default=None, ge=1, description="Cut the vectors, of models that were trained for it."
    )
    user: str | None = Field(default=None, description="Accepted; nothing depends on it.")
    truncate_prompt_tokens: Truncation = None
    keep_alive: KeepAlive = None
    prompt_name: str | None = Field(
        default=None, description="One of the model's own prompts, e.g. \"query\". Beyond OpenAI's API."
    )

    def inputs(self) -> tuple[list[str], list[list[int]]]:
        """The texts, or the lists of token ids: one of the two is empty."""
        if isinstance(self.input, str):
            return [self.input], []
        if isinstance(self.input[0], int):
            return [], [self.input]
        if isinstance(self.input[0], str):
            return list(self.input), []
        return [], list(self.input)


@router.post(
    "/v1/embeddings",
    tags=["OpenAI"],
    summary="Vectors of texts",
    response_class=JSONResponse,
    responses={200: {"model": EmbeddingList}},
)
async def embeddings(body: EmbeddingRequest, request: Request, models: Served) -> Response:
    service = models.find(body.model)
    texts, ids = body.inputs()
    service.check_encodes(("embedding",), len(texts) + len(ids))
    service.keep(body.keep_alive)
    return await answered(request, _embedded(service, body, texts, ids))


async def _embedded(
    service: Service, body: EmbeddingRequest, texts: list[str], ids: list[list[int]]
) -> Response:
    encoder = await service.until_encoder()
    encoder.check_dimensions(body.dimensions)
    prepared = await aside(lambda: _prepare(encoder, body, texts, ids))
    vectors = await encode(service.keeper.desk, prepared)
    usage = service.count_encoded(prepared)
    return await aside(lambda: _response(body, vectors, usage))


def _response(body: EmbeddingRequest, vectors: list[bytes], usage: dict[str, int]) -> Response:
    if body.dimensions is not None:
        vectors = [cut(vector, body.dimensions) for vector in vectors]
    shown = _base64 if body.encoding_format == "base64" else _floats
    data = [
        # Each by itself: all in one would keep the interpreter for long.
        msgspec.Raw(msgspec.json.encode({"object": "embedding", "index": index, "embedding": shown(vector)}))
        for index, vector in enumerate(vectors)
    ]
    return json_response({"object": "list", "data": data, "model": body.model, "usage": usage})


def json_response(body: dict[str, Any]) -> Response:
    """A JSON body, written faster than the framework does: most of it is numbers."""
    return Response(msgspec.json.encode(body), media_type="application/json")


def cut(vector: bytes, dimensions: int) -> bytes:
    """The first ``dimensions`` numbers, brought to the length 1 again."""
    values = array("f", vector)
    if len(values) <= dimensions:
        return vector
    kept = values[:dimensions]
    length = math.hypot(*kept) or 1.0
    return array("f", [value / length for value in kept]).tobytes()


def _prepare(
    encoder: TextEncoder, body: EmbeddingRequest, texts: list[str], ids: list[list[int]]
) -> list[Text]:
    if ids:
        return encoder.ids(ids, body.truncate_prompt_tokens, "input")
    return encoder.texts(texts, body.truncate_prompt_tokens, "input", prompt=body.prompt_name)


def _floats(vector: bytes) -> list[float]:
    return array("f", vector).tolist()


def _base64(vector: bytes) -> str:
    return base64.b64encode(vector).decode()
