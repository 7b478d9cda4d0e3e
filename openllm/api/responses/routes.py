"""``/v1/responses``: create, fetch, delete, cancel, list the input."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from starlette.convertors import StringConvertor, register_url_convertor

from openllm.api.caller import CALLER
from openllm.api.dialect import PieceReader, Translation
from openllm.api.disconnect import answered
from openllm.api.documented import Documented, streamed_events
from openllm.api.event_stream import EventStream, told_error
from openllm.api.readers import StreamReader
from openllm.api.responses.background import Background
from openllm.api.responses.body import Body, ResponseBody, encoded
from openllm.api.responses.documented import DeletedResponse, InputItemList, InputTokens, ResponseObject
from openllm.api.responses.events import EventWriter
from openllm.api.responses.items import Item, input_items
from openllm.api.responses.log import EventLog
from openllm.api.responses.request import InputTokensRequest, ResponseRequest
from openllm.api.responses.store import Store, Stored, check_size
from openllm.api.served import Served
from openllm.api.service import Service
from openllm.api.side_lane import LARGE, QUICK_BYTES, aside
from openllm.api.strict_json import StrictJsonRoute
from openllm.errors import PreviousResponseNotFound, RequestError, UnsupportedParameter, quoted

router = APIRouter(route_class=StrictJsonRoute, prefix="/v1/responses", tags=["OpenAI"])
_RESPONSE: Documented = {200: {"model": ResponseObject}}
_QUERY = {"stream", "starting_after", "include", "include[]", "include_obfuscation"}
History = tuple[bytes, ...]
# Nothing has to be done for it: what a response was created with is in it.
Include = Annotated[list[Literal["message.output_text.logprobs"]] | None, Query()]
_STREAMED = streamed_events(ResponseObject, "response.output_text.delta")


class _IdConvertor(StringConvertor):
    """An id, which the name of the fixed route beside it is not: that one takes POST only."""

    regex = r"(?!input_tokens$)[^/]+"


register_url_convertor("response_id", _IdConvertor())


class Responses:
    """What the routes keep between requests."""

    def __init__(self) -> None:
        self.store = Store()
        self.background = Background(self.store)


async def _get_responses(request: Request) -> Responses:
    responses = request.app.state.responses
    assert isinstance(responses, Responses)
    return responses


Kept = Annotated[Responses, Depends(_get_responses)]


class _Creation:
    """One ``POST /v1/responses``: what was asked, what is sent to the model, what is kept."""

    def __init__(
        self, body: ResponseRequest, service: Service, responses: Responses, history: History
    ) -> None:
        self.body = body
        self.service = service
        self.responses = responses
        self.response = ResponseBody.make(body)
        self._caller = CALLER.get().name
        own = input_items(body.input, self.response.token)
        self.translation: Translation = body.translate(_items(history), own)
        self._input = (*history, encoded(own))
        if body.kept:
            check_size(self._input)

    @classmethod
    async def begin(cls, body: ResponseRequest, service: Service, responses: Responses) -> _Creation:
        """Raises what speaks against it, before anything is spent on it."""
        history = _history(responses.store, body.previous_response_id)
        creation = await aside(lambda: cls(body, service, responses, history))
        service.check(creation.translation.chat, 1)
        return creation

    def stored(self, body: Body) -> Stored:
        """The response in the state of ``body``, as it is kept."""
        return Stored.make(self._caller, body, self._input)

    def keep(self, body: Body) -> None:
        """Store the response that has ended, if that was asked for."""
        if self.body.kept:
            self.responses.store.put(self.stored(body))


@router.post("", summary="Create a response", responses=_STREAMED)
async def create_response(
    body: ResponseRequest, request: Request, models: Served, responses: Kept
) -> Response:
    creation = await _Creation.begin(body, models.find(body.model), responses)
    if body.background:
        return _in_background(creation)
    if body.stream:
        return _stream(creation)
    return await answered(request, _whole(creation))


@router.post(
    "/input_tokens", summary="Count the tokens of the prompt", responses={200: {"model": InputTokens}}
)
async def count_input_tokens(
    body: InputTokensRequest, request: Request, models: Served, responses: Kept
) -> Response:
    service = models.find(body.model)
    history = _history(responses.store, body.previous_response_id)
    translation = await aside(lambda: body.translate(_items(history), input_items(body.input, "")))

    async def count() -> Response:
        tokens = await translation.prompt_tokens(service)
        return _json({"object": "response.input_tokens", "input_tokens": tokens})

    return await answered(request, count())


@router.get(
    "/{response_id:response_id}",
    summary="Fetch a stored response, or follow one that runs in the background",
    responses=_STREAMED,
)
async def get_response(
    response_id: str,
    models: Served,
    responses: Kept,
    request: Request,
    stream: bool = False,
    starting_after: Annotated[int, Query(ge=-1)] = -1,
    include: Include = None,
    include_too: Annotated[Include, Query(alias="include[]", description="As include.")] = None,
    include_obfuscation: Literal["false"] | None = None,
) -> Response:
    for name in request.query_params.keys() - _QUERY:
        raise UnsupportedParameter(
            f"The parameter {quoted(name)} is not supported.", hint="Leave it out.", param=name
        )
    stored = responses.store.get(CALLER.get().name, response_id)
    if not stream:
        return Response(stored.body, media_type="application/json")
    if stored.log is None:
        raise RequestError(
            "Only a response that was created with background=true and stream=true can be streamed again.",
            hint="Fetch it without stream.",
            param="stream",
        )
    return _follow(models.find(stored.content()["model"]), stored.log, starting_after)


@router.delete(
    "/{response_id:response_id}",
    summary="Forget a response",
    responses={200: {"model": DeletedResponse}},
)
async def delete_response(response_id: str, responses: Kept) -> Response:
    stored = responses.store.get(CALLER.get().name, response_id)
    responses.background.cancel(stored)
    responses.store.remove(stored)
    return _json({"id": response_id, "object": "response", "deleted": True})


@router.post(
    "/{response_id}/cancel", summary="Stop a response that runs in the background", responses=_RESPONSE
)
async def cancel_response(response_id: str, responses: Kept) -> Response:
    stored = responses.store.get(CALLER.get().name, response_id)
    if not stored.background:
        raise RequestError(
            "Only responses that were created with background=true can be cancelled.",
            hint="To stop another one, close the connection.",
            param="response_id",
        )
    responses.background.cancel(stored)
    return Response(stored.body, media_type="application/json")


@router.get(
    "/{response_id}/input_items",
    summary="The input of a response, the conversation before it included",
    responses={200: {"model": InputItemList}},
)
async def list_input_items(
    response_id: str,
    responses: Kept,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
    after: str | None = None,
) -> Response:
    items = responses.store.get(CALLER.get().name, response_id).input_items()
    if order == "desc":
        items.reverse()
    if after is not None:
        places = [place for place, item in enumerate(items) if item["id"] == after]
        if not places:
            raise RequestError(f"There is no item with the id {after!r}.", param="after")
        items = items[places[-1] + 1 :]
    page = items[:limit]
    ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": "", "last_id": ""}
    return _json({"object": "list", "data": page, **ends, "has_more": len(items) > limit})


async def _whole(creation: _Creation) -> Response:
    reader = PieceReader()
    usage = await creation.translation.answer(creation.service, reader)
    answer = reader.answer
    reason = answer.finished.reason if answer.finished else None
    body = creation.response.finished(answer.pieces, reason, usage, int(time.time()))
    creation.keep(body)
    return _json(body)


def _stream(creation: _Creation) -> EventStream:
    writer = EventWriter(creation.response)

    async def produce(stream: EventStream) -> None:
        service, reader = creation.service, StreamReader(stream, writer)
        with service.keeping_alive(stream):
            try:
                usage = await creation.translation.answer(
                    service, reader, lambda _: service.tell_held(stream)
                )
            except Exception as error:
                if not stream.begun:
                    raise
                last = writer.fail(told_error(error))
            else:
                last = writer.end(usage)
            assert writer.final is not None
            creation.keep(writer.final)
            stream.write(last)

    return EventStream(produce)


def _in_background(creation: _Creation) -> Response:
    body = creation.body
    if not body.kept:
        raise RequestError(
            "A background response must be stored.", hint="Leave out store=false.", param="store"
        )
    stored = creation.stored(creation.response.unfinished("queued"))
    if body.stream:
        stored.log = EventLog()
    background = creation.responses.background
    background.start(creation.service, creation.translation, creation.response, stored)
    if stored.log is None:
        return Response(stored.body, media_type="application/json")
    return _follow(creation.service, stored.log, -1)


def _follow(service: Service, log: EventLog, after: int) -> EventStream:
    async def produce(stream: EventStream) -> None:
        with service.keeping_alive(stream):
            await log.follow(stream.write, after)

    return EventStream(produce)


def _history(store: Store, previous: str | None) -> History:
    """The conversation that a request goes on from, which may make the request a large one. Raises
    ``RequestError``."""
    if previous is None:
        return ()
    stored = store.find(CALLER.get().name, previous)
    if stored is None:
        raise PreviousResponseNotFound(
            f"There is no previous response with the id {quoted(previous)}.",
            hint="It was not stored, or has been deleted or evicted; send the whole conversation as input.",
            param="previous_response_id",
        )
    if stored.status not in ("completed", "incomplete"):
        raise RequestError(
            f"The previous response {quoted(previous)} is {stored.status}.",
            hint="Go on from one that is completed.",
            param="previous_response_id",
        )
    history = stored.conversation()
    if sum(map(len, history)) > QUICK_BYTES:
        LARGE.set(True)
    return history


def _items(history: History) -> list[Item]:
    return [item for part in history for item in msgspec.json.decode(part)]


def _json(body: dict[str, Any]) -> Response:
    return Response(encoded(body), media_type="application/json")
