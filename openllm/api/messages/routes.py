"""``POST /v1/messages`` and ``POST /v1/messages/count_tokens``."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import Response

from openllm.api.answer import Usage
from openllm.api.dialect import PieceReader, Translation
from openllm.api.disconnect import answered
from openllm.api.documented import streamed_events
from openllm.api.event_stream import EventStream, told_error
from openllm.api.messages.body import MessageBody
from openllm.api.messages.documented import ANTHROPIC_ERRORS, MessageObject, TokenCount
from openllm.api.messages.events import MessageWriter, ping
from openllm.api.messages.request import CountTokensRequest, MessageRequest
from openllm.api.readers import StreamReader
from openllm.api.served import Served
from openllm.api.service import Service
from openllm.api.side_lane import aside
from openllm.api.strict_json import StrictJsonRoute

router = APIRouter(
    route_class=StrictJsonRoute, prefix="/v1/messages", tags=["Anthropic"], responses=ANTHROPIC_ERRORS
)


@router.post(
    "", summary="Answer a conversation", responses=streamed_events(MessageObject, "content_block_delta")
)
async def create_message(body: MessageRequest, request: Request, models: Served) -> Response:
    service = models.find(body.model)
    translation = await aside(body.translate)
    service.check(translation.chat, 1)
    message = MessageBody.make(body.model, body.max_tokens)
    if body.stream:
        return _stream(service, translation, message)
    return await answered(request, _whole(service, translation, message))


@router.post(
    "/count_tokens", summary="Count the tokens of the prompt", responses={200: {"model": TokenCount}}
)
async def count_tokens(body: CountTokensRequest, request: Request, models: Served) -> Response:
    service = models.find(body.model)
    translation = await aside(body.translate)

    async def count() -> Response:
        return _json({"input_tokens": await translation.prompt_tokens(service)})

    return await answered(request, count())


async def _whole(service: Service, translation: Translation, message: MessageBody) -> Response:
    reader = PieceReader()
    usage = await translation.answer(service, reader, fit=True)
    return _json(message.finished(reader.answer, usage))


def _stream(service: Service, translation: Translation, message: MessageBody) -> EventStream:
    writer = MessageWriter(message)

    async def produce(stream: EventStream) -> None:
        def submitted(usage: Usage) -> None:
            writer.usage = usage
            service.tell_held(stream)

        with service.keeping_alive(stream):
            reader = StreamReader(stream, writer)
            try:
                await translation.answer(service, reader, submitted, fit=True)
            except Exception as error:
                if not stream.begun:
                    raise
                stream.write(writer.fail(told_error(error)))
            else:
                stream.write(writer.end())

    return EventStream(produce, ping)


def _json(body: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")
