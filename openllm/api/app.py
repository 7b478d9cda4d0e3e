"""The whole assembly of the HTTP application."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route
from starlette.types import ASGIApp

from openllm import __version__
from openllm.api import (
    adapters,
    batches,
    completions,
    embeddings,
    files,
    models,
    probes,
    rerank,
    status,
    tokenize,
)
from openllm.api.archive import Archive
from openllm.api.auth import Auth
from openllm.api.body_limit import BodyLimit
from openllm.api.cors import cross_origin
from openllm.api.deadline import Deadline
from openllm.api.documented import ERRORS
from openllm.api.error_body import error_response, field_names, from_http, from_validation
from openllm.api.exchange import EXCHANGE
from openllm.api.messages import routes as messages
from openllm.api.messages.errors import AnthropicErrors
from openllm.api.options import FrontOptions
from openllm.api.rate_limits import RateLimits
from openllm.api.recorder import Observe, Recorder
from openllm.api.responses import routes as responses
from openllm.api.roster import Models
from openllm.errors import OpenLLMError

_METHOD_NOT_ALLOWED = 405
_log = logging.getLogger("openllm.api")


def create_app(
    served: Models, archive: Archive, options: FrontOptions, observers: Iterable[Observe]
) -> ASGIApp:
    """The routes, the layers around them and the one place where an error becomes a response.

    ``observers`` are shown each request that is over.
    """
    app = FastAPI(
        title="OpenLLM",
        version=__version__,
        responses=ERRORS,
        generate_unique_id_function=lambda route: route.name,
        exception_handlers={
            OpenLLMError: _on_openllm_error,
            RequestValidationError: _on_validation_error,
            HTTPException: _on_http_error,
            Exception: _on_bug,
        },
    )
    app.state.models = served
    app.state.responses = responses.Responses()
    app.state.archive = archive
    rooms = (
        completions,
        responses,
        messages,
        embeddings,
        rerank,
        tokenize,
        models,
        adapters,
        files,
        batches,
        probes,
        status,
    )
    for room in rooms:
        app.include_router(room.router)
    archive.routes = app
    return Recorder(AnthropicErrors(_layers(app, options)), observers)


def _layers(routes: ASGIApp, options: FrontOptions) -> ASGIApp:
    """What a request passes before the routes, the last one first."""
    app: ASGIApp = BodyLimit(routes, options.longest_body)
    app = Deadline(app, options.request_seconds)
    if options.keys is not None:
        app = RateLimits(app)
        app = Auth(app, options.keys, open_metrics=options.open_metrics)
    if options.cors_origins:
        app = cross_origin(app, options.cors_origins)
    return app


async def _on_openllm_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OpenLLMError)
    return error_response(error)


async def _on_validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    names = field_names(getattr(request.scope.get("route"), "body_field", None))
    return error_response(from_validation(error, names))


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    response = from_http(error)
    if error.status_code == _METHOD_NOT_ALLOWED:
        response.headers["allow"] = ", ".join(_methods(request))
    return response


def _methods(request: Request) -> list[str]:
    """What the path of a request may be asked with. Starlette names only the methods of one of its routes."""
    found: set[str] = set()
    for route in request.app.routes:
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            found |= route.methods or set()
    return sorted(found)


async def _on_bug(_: Request, error: Exception) -> JSONResponse:
    exchange = EXCHANGE.get()
    _log.error("request %s failed", exchange.id if exchange else "", exc_info=error)
    return error_response(OpenLLMError("The server made a mistake; its log says more."))
