"""``POST /v1/chat/completions`` and ``POST /v1/completions``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.responses import JSONResponse

from openllm.api.again import read_answer
from openllm.api.answer import Answer, Reader
from openllm.api.chunks import ChunkWriter, Envelope, LogprobChunkWriter
from openllm.api.disconnect import answered
from openllm.api.documented import ChatCompletion, Completion, streamed
from openllm.api.event_stream import DONE, EventStream
from openllm.api.logprob_bodies import chat_logprobs, completion_logprobs
from openllm.api.parameters import ChatRequest, CompletionRequest
from openllm.api.readers import StreamReader, WholeReader
from openllm.api.served import Served
from openllm.api.service import Service
from openllm.api.strict_json import StrictJsonRoute
from openllm.api.told_answer import ToldAnswer

router = APIRouter(route_class=StrictJsonRoute)
_OPENING = {"delta": {"role": "assistant", "content": ""}}

Submit = Callable[[Reader], Awaitable[Answer]]


@router.post(
    "/v1/chat/completions",
    tags=["OpenAI"],
    summary="Answer a conversation",
    response_class=JSONResponse,
    responses=streamed(ChatCompletion, "chat.completion.chunk"),
)
async def chat_completions(body: ChatRequest, request: Request, models: Served) -> Response:
    service = models.find(body.model)

    async def submit(reader: Reader) -> Answer:
        return await service.chat(body, reader)

    count = body.n or 1
    service.check(body, count)
    await service.images.load(body)
    if not body.stream:
        envelope = Envelope.make("chatcmpl", "chat.completion", body.model)
        whole = partial(_chat_choice, told=bool(body.logprobs))
        return await answered(request, _whole(service, submit, envelope, whole, count))
    envelope = Envelope.make("chatcmpl", "chat.completion.chunk", body.model)
    usage = body.wants_usage()
    kind = partial(LogprobChunkWriter, body=chat_logprobs) if body.logprobs else ChunkWriter
    before = b'"delta":{"content":'
    writer = kind(envelope, before=before, after=b"}", empty={"delta": {}}, opening=_OPENING, usage=usage)
    return _stream(service, submit, writer, usage, progress=body.progress)


@router.post(
    "/v1/completions",
    tags=["OpenAI"],
    summary="Continue a text",
    response_class=JSONResponse,
    responses=streamed(Completion, "text_completion"),
)
async def completions(body: CompletionRequest, request: Request, models: Served) -> Response:
    service = models.find(body.model)

    async def submit(reader: Reader) -> Answer:
        return await service.complete(body, reader)

    count = len(body.prompts()) * body.sequences()
    service.check(body, count)
    told = body.logprobs is not None
    envelope = Envelope.make("cmpl", "text_completion", body.model)
    if not body.stream:
        best = _Best(body.n or 1, body.sequences()) if body.chooses else None
        whole = partial(_text_choice, told=told)
        return await answered(request, _whole(service, submit, envelope, whole, count, best))
    usage = body.wants_usage()
    kind = partial(LogprobChunkWriter, body=completion_logprobs) if told else ChunkWriter
    writer = kind(envelope, before=b'"text":', after=b"", empty={"text": ""}, usage=usage)
    return _stream(service, submit, writer, usage, progress=body.progress)


def _stream(
    service: Service, submit: Submit, writer: ChunkWriter, usage: bool, *, progress: bool | None
) -> EventStream:
    async def produce(stream: EventStream) -> None:
        with service.keeping_alive(stream, progress=progress):
            await service.until_prompter()
            reader = StreamReader(stream, writer)

            async def submit_and_tell() -> Answer:
                answer = await submit(reader)
                service.tell_held(stream)
                return answer

            answer = await read_answer(service, submit_and_tell, reader)
            stream.write((writer.usage(answer.usage) if usage else b"") + DONE)

    return EventStream(produce)


async def _whole(
    service: Service,
    submit: Submit,
    envelope: Envelope,
    choice_body: Callable[[int, WholeReader], dict[str, Any]],
    count: int,
    best: _Best | None = None,
) -> Response:
    reader = WholeReader(count)
    await service.until_prompter()
    answer = await read_answer(service, lambda: submit(reader), reader)
    given = range(count) if best is None else best.choose(answer, count)
    choices = [{"index": index, **choice_body(place, reader)} for index, place in enumerate(given)]
    return JSONResponse(envelope.body(choices, usage=answer.usage.body()))


class _Best(msgspec.Struct, frozen=True):
    """Which of ``of`` answers to each prompt are given: the ``given`` ones with the best mean logprob."""

    given: int
    of: int

    def choose(self, answer: Answer, count: int) -> list[int]:
        """The places of all that are given, the best answer to a prompt first."""
        assert isinstance(answer, ToldAnswer)
        places: list[int] = []
        for first in range(0, count, self.of):
            ranked = sorted(range(first, first + self.of), key=answer.mean_logprob, reverse=True)
            places += ranked[: self.given]
        return places


def _chat_choice(index: int, reader: WholeReader, *, told: bool) -> dict[str, Any]:
    text, reasoning, calls = reader.text(index), reader.reasoning(index), reader.calls[index].body()
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if reasoning:
        message["reasoning_content"] = reasoning
    if calls:
        message |= {"content": text or None, "tool_calls": calls}
    logprobs = chat_logprobs(reader.logprobs[index]) if told else None
    return {"message": message, "logprobs": logprobs, "finish_reason": reader.reasons[index]}


def _text_choice(index: int, reader: WholeReader, *, told: bool) -> dict[str, Any]:
    logprobs = completion_logprobs(reader.logprobs[index]) if told else None
    return {"text": reader.text(index), "logprobs": logprobs, "finish_reason": reader.reasons[index]}
