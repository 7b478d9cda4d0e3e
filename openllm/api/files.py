"""``/v1/files``: upload, list, read and delete files of one's own."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect

from openllm.api.archive import Archived
from openllm.api.caller import CALLER
from openllm.api.pages import Page, page_body
from openllm.api.upload import Upload
from openllm.batches.records import KEPT_SECONDS, FileRecord, file_id, now
from openllm.errors import RequestError, UnsupportedParameter

router = APIRouter(prefix="/v1/files", tags=["Files and batches"])
_PURPOSES = ("batch", "user_data")
_SOONEST, _LATEST = 3600, 30 * 24 * 3600
_CLIENT_CLOSED_REQUEST = 499
_FORM = {
    "type": "object",
    "required": ["file", "purpose"],
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "purpose": {"type": "string", "enum": list(_PURPOSES)},
        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
        "expires_after[seconds]": {"type": "integer", "minimum": _SOONEST, "maximum": _LATEST},
    },
}
_BODY = {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}
_CONTENT: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
}


class FileObject(BaseModel):
    """OpenAI's ``file``. Times are seconds since 1970; without ``expires_at`` it is kept until it is deleted."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: Literal["batch", "batch_output", "user_data"]
    status: Literal["processed"]


class FileList(Page):
    """A page of files."""

    data: list[FileObject]


class DeletedFile(BaseModel):
    """The answer to a deletion."""

    id: str
    object: Literal["file"]
    deleted: Literal[True]


class FileQuery(BaseModel):
    """Which page of which files."""

    model_config = ConfigDict(extra="forbid")
    purpose: Literal["batch", "batch_output", "user_data"] | None = None
    limit: int = Field(default=10_000, ge=1, le=10_000)
    order: Literal["asc", "desc"] = Field(default="desc", description="By the time of creation.")
    after: str | None = Field(default=None, description="The last id of the page before.")


@router.post("", summary="Upload a file", response_model=FileObject, openapi_extra={"requestBody": _BODY})
async def create_file(request: Request, archive: Archived) -> Any:
    storage = await archive.storage()
    await asyncio.to_thread(storage.require_space, int(request.headers.get("content-length", 0)))
    name = file_id()
    part = storage.part(name)
    upload = Upload(request.headers.get("content-type", ""), part, archive.longest_upload)
    try:
        with archive.uploading():
            await upload.read(request.stream())
        record = _record(name, upload)
        await asyncio.to_thread(storage.add_file, record)
    except ClientDisconnect:
        return Response(status_code=_CLIENT_CLOSED_REQUEST)
    finally:
        part.unlink(missing_ok=True)  # unless it was published: then it has moved away
    return record.body()


@router.get("", summary="One's files", response_model=FileList)
async def list_files(query: Annotated[FileQuery, Query()], archive: Archived) -> dict[str, Any]:
    storage = await archive.storage()
    files, more = await asyncio.to_thread(
        storage.files,
        CALLER.get().name,
        purpose=query.purpose,
        after=query.after,
        limit=query.limit,
        newest_first=query.order == "desc",
    )
    return page_body([file.body() for file in files], more)


@router.get("/{file_id}", summary="What is known of a file", response_model=FileObject)
async def get_file(file_id: str, archive: Archived) -> dict[str, Any]:
    storage = await archive.storage()
    record = await asyncio.to_thread(storage.file, file_id, CALLER.get().name)
    return record.body()


@router.get("/{file_id}/content", summary="A file's content", response_class=Response, responses=_CONTENT)
async def get_content(file_id: str, archive: Archived) -> Response:
    storage = await archive.storage()
    record = await asyncio.to_thread(storage.file, file_id, CALLER.get().name)
    return FileResponse(
        storage.content(record.id), media_type="application/octet-stream", filename=record.filename
    )


@router.delete("/{file_id}", summary="Delete a file", response_model=DeletedFile)
async def delete_file(file_id: str, archive: Archived) -> dict[str, Any]:
    storage = await archive.storage()
    await asyncio.to_thread(storage.delete_file, file_id, CALLER.get().name)
    return {"id": file_id, "object": "file", "deleted": True}


def _record(name: str, upload: Upload) -> FileRecord:
    """Raises ``RequestError`` for fields that are wrong or unknown."""
    fields = dict(upload.fields)
    purpose = fields.pop("purpose", None)
    if purpose is None:
        raise RequestError("The parameter 'purpose' is missing.", hint="Add it.", param="purpose")
    if purpose not in _PURPOSES:
        raise UnsupportedParameter(
            f"The purpose {purpose!r} is not supported.", hint="Use 'batch' or 'user_data'.", param="purpose"
        )
    seconds = _expiry(fields.pop("expires_after[anchor]", None), fields.pop("expires_after[seconds]", None))
    if fields:
        unknown = next(iter(fields))
        raise UnsupportedParameter(f"The parameter {unknown!r} is not supported.", param=unknown)
    if seconds is None and purpose == "batch":
        seconds = KEPT_SECONDS
    created = now()
    return FileRecord(
        id=name,
        owner=CALLER.get().name,
        bytes=upload.bytes,
        created_at=created,
        filename=upload.filename or "upload",
        purpose=purpose,
        expires_at=None if seconds is None else created + seconds,
    )


def _expiry(anchor: str | None, seconds: str | None) -> int | None:
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise RequestError("The anchor must be 'created_at'.", param="expires_after.anchor")
    if seconds is None or not seconds.isascii() or not seconds.isdigit() or len(seconds) > 9:
        raise RequestError("The seconds must be a whole number.", param="expires_after.seconds")
    if not _SOONEST <= int(seconds) <= _LATEST:
        raise RequestError(
            f"The seconds must be from {_SOONEST} to {_LATEST}.", param="expires_after.seconds"
        )
    return int(seconds)
