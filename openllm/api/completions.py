"""``POST /v1/chat/completions`` and ``POST /v1/completions``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from starlette.responses import JSONResponse

from openllm.api.answer import Answer
from openllm.api.chunks import Choice, ChunkWriter, Envelope
from openllm.api.disconnect import ClientGoneError, while_connected
from openllm.api.event_stream import DONE, EventStream, comment
from openllm.api.parameters import ChatRequest, CompletionRequest, Parameters
from openllm.api.service import Service

router = APIRouter()
_CLIENT_CLOSED_REQUEST = 499  # nginx's number; nobody reads it


async def get_service(request: Request) -> Service:
    """The one of this app."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


Served = Annotated[Service, Depends(get_service)]


@router.post("/v1/chat/completions", tags=["OpenAI"], summary="Answer a conversation")
async def chat_completions(body: ChatRequest, request: Request, service: Served) -> Response:
    service.check(body, body.n or 1)
    if not body.stream:
        envelope = Envelope.make("chatcmpl", "chat.completion", body.model)
        return await _whole(service, request, envelope, lambda: service.chat(body), _chat_choice, body.n or 1)
    writer = ChunkWriter(
        Envelope.make("chatcmpl", "chat.completion.chunk", body.model),
        before=b'"delta":{"content":',
        after=b"}",
        empty={"delta": {}},
        opening={"delta": {"role": "assistant", "content": ""}},
        usage=body.wants_usage(),
    )
    return EventStream(_chunks(service, body, lambda: service.chat(body), writer))


@router.post("/v1/completions", tags=["OpenAI"], summary="Continue a text")
async def completions(body: CompletionRequest, request: Request, service: Served) -> Response:
    choices = len(body.prompts()) * (body.n or 1)
    service.check(body, choices)
    envelope = Envelope.make("cmpl", "text_completion", body.model)
    if not body.stream:
        return await _whole(service, request, envelope, lambda: service.complete(body), _text_choice, choices)
    writer = ChunkWriter(envelope, before=b'"text":', after=b"", empty={"text": ""}, usage=body.wants_usage())
    return EventStream(_chunks(service, body, lambda: service.complete(body), writer))


async def _chunks(
    service: Service,
    body: Parameters,
    submit: Callable[[], Answer],
    writer: ChunkWriter,
) -> AsyncGenerator[bytes]:
    """The bytes of a stream."""
    async for _ in service.until_prompter():
        yield comment(service.keeper.doing)
    answer = submit()
    with service.streaming(answer):
        if not service.keeper.ready:
            yield comment(service.keeper.doing)
        async for events in answer.events():
            yield writer.write(events) if events else comment(service.keeper.doing)
        yield (writer.usage(answer.usage) if body.wants_usage() else b"") + DONE


async def _whole(
    service: Service,
    request: Request,
    envelope: Envelope,
    submit: Callable[[], Answer],
    choice_body: Callable[[int, Choice], dict[str, Any]],
    count: int,
) -> Response:
    choices = [Choice() for _ in range(count)]
    try:
        async with while_connected(request.receive):
            async for _ in service.until_prompter():
                pass
            answer = submit()
            try:
                async for events in answer.events():
                    for index, happened in events:
                        choices[index].add(happened)
            finally:
                answer.abandon()
    except ClientGoneError:
        return Response(status_code=_CLIENT_CLOSED_REQUEST)
    bodies = [choice_body(index, choice) for index, choice in enumerate(choices)]
    return JSONResponse(envelope.body(bodies, usage=answer.usage.body()))


def _chat_choice(index: int, choice: Choice) -> dict[str, Any]:
    message = {"role": "assistant", "content": choice.text, "refusal": None}
    return {"index": index, "message": message, "logprobs": None, "finish_reason": choice.reason}


def _text_choice(index: int, choice: Choice) -> dict[str, Any]:
    return {"index": index, "text": choice.text, "logprobs": None, "finish_reason": choice.reason}
