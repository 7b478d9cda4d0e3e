"""The whole assembly of the HTTP application."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route
from starlette.types import ASGIApp

from openllm import __version__
from openllm.api import batches, completions, files, models, probes
from openllm.api.archive import Archive
from openllm.api.documented import ERRORS
from openllm.api.error_body import error_response, from_http, from_validation
from openllm.api.recorder import Recorder
from openllm.api.service import Service
from openllm.errors import OpenLLMError

_METHOD_NOT_ALLOWED = 405
_log = logging.getLogger("openllm.api")


def create_app(service: Service, archive: Archive) -> ASGIApp:
    """The routes, the middleware and the one place where an error becomes a response."""
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
    app.state.service = service
    app.state.archive = archive
    for room in (completions, models, files, batches, probes):
        app.include_router(room.router)
    archive.routes = app
    return Recorder(app, service.metrics)


async def _on_openllm_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OpenLLMError)
    return error_response(error)


async def _on_validation_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return error_response(from_validation(error))


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
    _log.error("a request failed", exc_info=error)
    return error_response(OpenLLMError("The server made a mistake; its log says more."))
