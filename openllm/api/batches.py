"""``/v1/batches``: a file of requests that is answered into another file, behind live traffic."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from openllm.api.archive import Archived
from openllm.api.caller import CALLER
from openllm.api.pages import Page, page_body
from openllm.api.parameters import Body
from openllm.api.strict_json import StrictJsonRoute
from openllm.batches.records import DAY, KEPT_SECONDS, Status
from openllm.errors import UnsupportedParameter, quoted

router = APIRouter(route_class=StrictJsonRoute, prefix="/v1/batches", tags=["Files and batches"])
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": DAY}
_LONGEST_WINDOW = 30 * DAY
Key = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Value = Annotated[str, StringConstraints(max_length=512)]


class ExpiresAfter(Body):
    """When the output files go."""

    anchor: Literal["created_at"]
    seconds: int = Field(ge=3600, le=30 * DAY)


class BatchRequest(Body):
    """``POST /v1/batches``."""

    input_file_id: str = Field(description="A file of purpose 'batch': JSON Lines, a request each.")
    endpoint: str = Field(description="The route that answers, as the lines' url, such as /v1/completions.")
    completion_window: Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,5}[smhd]$")] = Field(
        description="'24h' in OpenAI's API; here any time up to 30d. What is not answered then expires.",
        examples=["24h"],
    )
    metadata: Annotated[dict[Key, Value], Field(max_length=16)] | None = None
    output_expires_after: ExpiresAfter | None = None

    def seconds(self) -> int:
        """The completion window. Raises ``UnsupportedParameter`` if it is too long."""
        found = re.fullmatch(r"(\d+)([smhd])", self.completion_window)
        assert found is not None
        seconds = int(found[1]) * _UNITS[found[2]]
        if seconds > _LONGEST_WINDOW:
            raise UnsupportedParameter(
                "The completion window is too long.", hint="Use at most 30d.", param="completion_window"
            )
        return seconds


class RequestCounts(BaseModel):
    """Lines of the input: all, answered well, and answered with an error or not at all."""

    total: int
    completed: int
    failed: int


class BatchError(BaseModel):
    """What is wrong with a line of the input."""

    code: str
    message: str
    param: str | None
    line: int | None


class BatchErrors(BaseModel):
    """Why a batch failed."""

    object: Literal["list"]
    data: list[BatchError]


class InputDetails(BaseModel):
    """Of the input tokens."""

    cached_tokens: int


class OutputDetails(BaseModel):
    """Of the output tokens."""

    reasoning_tokens: int


class BatchUsage(BaseModel):
    """Tokens of all answers."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class BatchObject(BaseModel):
    """OpenAI's ``batch``. Times are seconds since 1970."""

    id: str
    object: Literal["batch"]
    endpoint: str
    model: str | None
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    status: Status
    output_file_id: str | None = Field(description="Answers with a status below 400, when it has ended.")
    error_file_id: str | None = Field(description="The other answers, when it has ended.")
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: BatchUsage
    metadata: dict[str, str] | None


class BatchList(Page):
    """A page of batches, the newest first."""

    data: list[BatchObject]


class BatchQuery(BaseModel):
    """Which page."""

    model_config = ConfigDict(extra="forbid")
    limit: int = Field(default=20, ge=1, le=100)
    after: str | None = Field(default=None, description="The last id of the page before.")


@router.post("", summary="Answer a file of requests", response_model=BatchObject)
async def create_batch(body: BatchRequest, archive: Archived) -> dict[str, Any]:
    backlog = await archive.backlog()
    if body.endpoint not in archive.endpoints:
        raise UnsupportedParameter(
            f"A batch cannot use the endpoint {quoted(body.endpoint)}.",
            hint=f"Use one of: {', '.join(sorted(archive.endpoints))}.",
            param="endpoint",
        )
    record = await backlog.create(
        CALLER.get().name,
        input_file_id=body.input_file_id,
        endpoint=body.endpoint,
        completion_window=body.completion_window,
        seconds=body.seconds(),
        metadata=body.metadata,
        output_seconds=body.output_expires_after.seconds if body.output_expires_after else KEPT_SECONDS,
    )
    return record.body()


@router.get("", summary="One's batches", response_model=BatchList)
async def list_batches(query: Annotated[BatchQuery, Query()], archive: Archived) -> dict[str, Any]:
    backlog = await archive.backlog()
    records, more = await backlog.page(CALLER.get().name, after=query.after, limit=query.limit)
    return page_body([record.body() for record in records], more)


@router.get("/{batch_id}", summary="How far a batch is", response_model=BatchObject)
async def get_batch(batch_id: str, archive: Archived) -> dict[str, Any]:
    backlog = await archive.backlog()
    return (await backlog.get(batch_id, CALLER.get().name)).body()


@router.post(
    "/{batch_id}/cancel", summary="Stop a batch; what was answered is kept", response_model=BatchObject
)
async def cancel_batch(batch_id: str, archive: Archived) -> dict[str, Any]:
    backlog = await archive.backlog()
    return (await backlog.cancel(batch_id, CALLER.get().name)).body()
