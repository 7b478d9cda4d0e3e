"""``POST /v1/chat/completions`` and ``POST /v1/completions``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.responses import JSONResponse

from openllm.api.answer import Answer, Reader
from openllm.api.chunks import ChunkWriter, Envelope
from openllm.api.disconnect import CLIENT_CLOSED_REQUEST, ClientGoneError, while_connected
from openllm.api.documented import ChatCompletion, Completion, streamed
from openllm.api.event_stream import DONE, EventStream, comment
from openllm.api.parameters import ChatRequest, CompletionRequest
from openllm.api.readers import StreamReader, WholeReader
from openllm.api.served import Served
from openllm.api.service import Service
from openllm.api.strict_json import StrictJsonRoute

router = APIRouter(route_class=StrictJsonRoute)
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
    await service.images.load(body)
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
    choice_body: Callable[[int, WholeReader], dict[str, Any]],
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
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    choices = [choice_body(index, reader) for index in range(count)]
    return JSONResponse(envelope.body(choices, usage=answer.usage.body()))


def _chat_choice(index: int, reader: WholeReader) -> dict[str, Any]:
    text, reasoning, calls = reader.text(index), reader.reasoning(index), reader.calls[index].body()
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if reasoning:
        message["reasoning_content"] = reasoning
    if calls:
        message |= {"content": text or None, "tool_calls": calls}
    return {"index": index, "message": message, "logprobs": None, "finish_reason": reader.reasons[index]}


def _text_choice(index: int, reader: WholeReader) -> dict[str, Any]:
    text = reader.text(index)
    return {"index": index, "text": text, "logprobs": None, "finish_reason": reader.reasons[index]}
