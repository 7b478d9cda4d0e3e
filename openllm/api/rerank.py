"""``POST /v1/rerank`` (the shape of Jina's and Cohere's) and ``POST /v1/score`` (the shape of vLLM's).

A reranker scores each pair of texts in one pass. Of an embedding model the score is the cosine of two vectors.
"""

from __future__ import annotations

import time
import uuid
from array import array
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import AliasChoices, Field

from openllm.api.disconnect import answered
from openllm.api.documented import Ranking, ScoreList
from openllm.api.embeddings import MOST_TEXTS, Truncation, json_response
from openllm.api.parameters import Body, KeepAlive
from openllm.api.served import Served
from openllm.api.service import Service
from openllm.api.side_lane import aside
from openllm.api.strict_json import StrictJsonRoute
from openllm.api.text_encoder import Pair, Text, TextEncoder
from openllm.api.vectors import encode
from openllm.engines.encoding import ENCODER_TASKS
from openllm.errors import RequestError

router = APIRouter(route_class=StrictJsonRoute)
_QUERY_PROMPT, _DOCUMENT_PROMPTS = "query", ("document", "passage")


class Document(Body):
    """A document as an object."""

    text: str


Documents = Annotated[list[str | Document], Field(min_length=1, max_length=MOST_TEXTS)]
Texts = str | Annotated[list[str], Field(min_length=1, max_length=MOST_TEXTS)]


class RerankRequest(Body):
    """``POST /v1/rerank``."""

    model: str = Field(description="A name of the served model, as in /v1/models.")
    query: str
    documents: Documents
    top_n: int | None = Field(
        default=None, ge=1, description="How many to return, the best first. All by default."
    )
    return_documents: bool | None = True
    user: str | None = Field(default=None, description="Accepted; nothing depends on it.")
    truncate_prompt_tokens: Truncation = None
    keep_alive: KeepAlive = None

    def texts(self) -> list[str]:
        """The documents' texts."""
        return [each if isinstance(each, str) else each.text for each in self.documents]


class ScoreRequest(Body):
    """``POST /v1/score``: one text against each of several, or as many against as many."""

    model: str = Field(description="A name of the served model, as in /v1/models.")
    text_1: Texts = Field(validation_alias=AliasChoices("text_1", "queries"), description="Or `queries`.")
    text_2: Texts = Field(validation_alias=AliasChoices("text_2", "documents"), description="Or `documents`.")
    user: str | None = Field(default=None, description="Accepted; nothing depends on it.")
    truncate_prompt_tokens: Truncation = None
    keep_alive: KeepAlive = None

    def pairs(self) -> list[Pair]:
        """The pairs to be scored, in order. Raises ``RequestError`` if the numbers do not go together."""
        first = [self.text_1] if isinstance(self.text_1, str) else self.text_1
        second = [self.text_2] if isinstance(self.text_2, str) else self.text_2
        if len(first) == 1:
            first = first * len(second)
        if len(first) != len(second):
            raise RequestError(
                f"text_1 holds {len(first)} texts and text_2 {len(second)}.",
                hint="Send one text_1, or as many as text_2.",
                param="text_1",
            )
        return list(zip(first, second, strict=True))


@router.post("/rerank", include_in_schema=False)
@router.post("/v2/rerank", include_in_schema=False)
@router.post(
    "/v1/rerank",
    tags=["Scores"],
    summary="Order documents by what they say of a query",
    response_class=JSONResponse,
    responses={200: {"model": Ranking}},
)
async def rerank(body: RerankRequest, request: Request, models: Served) -> Response:
    service = models.find(body.model)
    texts = body.texts()
    service.check_encodes(ENCODER_TASKS, len(texts) + 1)
    service.keep(body.keep_alive)
    return await answered(request, _ranking(service, body, texts))


async def _ranking(service: Service, body: RerankRequest, texts: list[str]) -> Response:
    pairs = [(body.query, text) for text in texts]
    scores, usage = await _scores(service, pairs, body.truncate_prompt_tokens, roles=True)
    best = sorted(range(len(texts)), key=lambda index: -scores[index])[: body.top_n]
    results: list[dict[str, Any]] = [{"index": index, "relevance_score": scores[index]} for index in best]
    if body.return_documents is not False:
        for result in results:
            result["document"] = {"text": texts[result["index"]]}
    ranking = {"id": f"rerank-{uuid.uuid4().hex}", "model": body.model, "results": results, "usage": usage}
    return await aside(lambda: json_response(ranking))


@router.post("/score", include_in_schema=False)
@router.post(
    "/v1/score",
    tags=["Scores"],
    summary="How well texts go together",
    response_class=JSONResponse,
    responses={200: {"model": ScoreList}},
)
async def score(body: ScoreRequest, request: Request, models: Served) -> Response:
    service = models.find(body.model)
    pairs = body.pairs()
    service.check_encodes(ENCODER_TASKS, len(pairs) + 1)
    service.keep(body.keep_alive)
    return await answered(request, _scored(service, body, pairs))


async def _scored(service: Service, body: ScoreRequest, pairs: list[Pair]) -> Response:
    scores, usage = await _scores(service, pairs, body.truncate_prompt_tokens, roles=False)
    data = [{"index": index, "object": "score", "score": value} for index, value in enumerate(scores)]
    head = {
        "id": f"score-{uuid.uuid4().hex}",
        "object": "list",
        "created": int(time.time()),
        "model": body.model,
    }
    return json_response({**head, "data": data, "usage": usage})


async def _scores(
    service: Service, pairs: list[Pair], limit: int | None, *, roles: bool
) -> tuple[list[float], dict[str, int]]:
    """A score for each pair, and the usage. With ``roles`` the first text is a query and the second a document,
    and an embedding model's prompts for them are used."""
    encoder = await service.until_encoder()
    if service.task == "rerank":
        texts = await aside(lambda: encoder.pairs(pairs, limit, "documents"))
        values = await encode(service.keeper.desk, texts)
        return [array("f", value)[0] for value in values], service.count_encoded(texts)
    sides = _Sides(pairs)
    texts = await aside(lambda: sides.texts(encoder, limit, roles=roles))
    values = await encode(service.keeper.desk, texts)
    return sides.cosines(values), service.count_encoded(texts)


class _Sides:
    """The first and the second texts of pairs, each distinct one once."""

    def __init__(self, pairs: list[Pair]) -> None:
        self._pairs = pairs
        self._first = list(dict.fromkeys(first for first, _ in pairs))
        self._second = list(dict.fromkeys(second for _, second in pairs))

    def texts(self, encoder: TextEncoder, limit: int | None, *, roles: bool) -> list[Text]:
        query, document = None, None
        if roles:
            query = _QUERY_PROMPT if encoder.has_prompt(_QUERY_PROMPT) else None
            document = next((name for name in _DOCUMENT_PROMPTS if encoder.has_prompt(name)), None)
            # A query's prompt must not go before a document by being the default.
            document = "" if query is not None and document is None else document
        first = encoder.texts(self._first, limit, "query", prompt=query)
        return first + encoder.texts(self._second, limit, "documents", prompt=document)

    def cosines(self, vectors: list[bytes]) -> list[float]:
        import numpy as np

        table = np.frombuffer(b"".join(vectors), "<f4").reshape(len(vectors), -1)
        table = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
        places = {text: place for place, text in enumerate(self._first)}
        others = {text: len(places) + place for place, text in enumerate(self._second)}
        left = table[[places[first] for first, _ in self._pairs]]
        right = table[[others[second] for _, second in self._pairs]]
        cosines: list[float] = np.einsum("ij,ij->i", left, right).tolist()
        return cosines
