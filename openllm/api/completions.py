"""``POST /v1/chat/completions`` and ``POST /v1/completions``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.responses import JSONResponse

from openllm.api.answer import Answer, Reader
from openllm.api.chunks import ChunkWriter, Envelope
from openllm.api.disconnect import ClientGoneError, while_connected
from openllm.api.documented import ChatCompletion, Completion, streamed
from openllm.api.event_stream import DONE, EventStream, comment
from openllm.api.parameters import ChatRequest, CompletionRequest
from openllm.api.readers import StreamReader, WholeReader
from openllm.api.served import Served
from openllm.api.service import Service

router = APIRouter()
_CLIENT_CLOSED_REQUEST = 499  # nginx's number; nobody reads it
_OPENING = {"delta": {"role": "assistant", "content": ""}}

Submit = Callable[[Reader], Answer]


@router.post(
    "/v1/chat/completions",
    tags=["OpenAI"],
    summary="Answer a conversation",
    response_class=JSONResponse,
    responses=streamed(ChatCompletion, "chat.completion.chunk"),
)
async def chat_completions(body: ChatRequest, request: Request, service: Served) -> Response:
    def submit(reader: Reader) -> Answer:
        return service.chat(body, reader)

    count = body.n or 1
    service.check(body, count)
    if not body.stream:
        envelope = Envelope.make("chatcmpl", "chat.completion", body.model)
        return await _whole(service, request, submit, envelope, _chat_choice, count)
    envelope = Envelope.make("chatcmpl", "chat.completion.chunk", body.model)
    usage = body.wants_usage()
    before = b'"delta":{"content":'
    writer = ChunkWriter(
        envelope, before=before, after=b"}", empty={"delta": {}}, opening=_OPENING, usage=usage
    )
    return _stream(service, submit, writer, usage)


@router.post(
    "/v1/completions",
    tags=["OpenAI"],
    summary="Continue a text",
    response_class=JSONResponse,
    responses=streamed(Completion, "text_completion"),
)
async def completions(body: CompletionRequest, request: Request, service: Served) -> Response:
    def submit(reader: Reader) -> Answer:
        return service.complete(body, reader)

    count = len(body.prompts()) * (body.n or 1)
    service.check(body, count)
    envelope = Envelope.make("cmpl", "text_completion", body.model)
    if not body.stream:
        return await _whole(service, request, submit, envelope, _text_choice, count)
    usage = body.wants_usage()
    writer = ChunkWriter(envelope, before=b'"text":', after=b"", empty={"text": ""}, usage=usage)
    return _stream(service, submit, writer, usage)


def _stream(service: Service, submit: Submit, writer: ChunkWriter, usage: bool) -> EventStream:
    async def produce(stream: EventStream) -> None:
        with service.keeping_alive(stream):
            await service.until_prompter()
            reader = StreamReader(stream, writer)
            answer = submit(reader)
            try:
                if not service.keeper.ready:
                    stream.write(comment(service.keeper.doing))
                await reader.complete()
            finally:
                answer.abandon()
            stream.write((writer.usage(answer.usage) if usage else b"") + DONE)

    return EventStream(produce)


async def _whole(
    service: Service,
    request: Request,
    submit: Submit,
    envelope: Envelope,
    choice_body: Callable[[int, str, str | None], dict[str, Any]],
    count: int,
) -> Response:
    reader = WholeReader(count)
    try:
        async with while_connected(request.receive):
            await service.until_prompter()
            answer = submit(reader)
            try:
                await reader.complete()
            finally:
                answer.abandon()
    except ClientGoneError:
        return Response(status_code=_CLIENT_CLOSED_REQUEST)
    pairs = zip(reader.texts, reader.reasons, strict=True)
    choices = [choice_body(index, text, reason) for index, (text, reason) in enumerate(pairs)]
    return JSONResponse(envelope.body(choices, usage=answer.usage.body()))


def _chat_choice(index: int, text: str, reason: str | None) -> dict[str, Any]:
    message = {"role": "assistant", "content": text, "refusal": None}
    return {"index": index, "message": message, "logprobs": None, "finish_reason": reason}


def _text_choice(index: int, text: str, reason: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}
