"""The whole assembly of the HTTP application."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from openllm import __version__
from openllm.api import adapters, completions, models, probes
from openllm.api.error_body import error_response, from_http, from_validation
from openllm.api.messages import routes as messages
from openllm.api.messages.errors import AnthropicErrors
from openllm.api.recorder import Recorder
from openllm.api.responses import routes as responses
from openllm.api.service import Service
from openllm.errors import OpenLLMError

_log = logging.getLogger("openllm.api")


def create_app(service: Service) -> ASGIApp:
    """The routes, the middleware and the one place where an error becomes a response."""
    app = FastAPI(
        title="OpenLLM",
        version=__version__,
        exception_handlers={
            OpenLLMError: _on_openllm_error,
            RequestValidationError: _on_validation_error,
            HTTPException: _on_http_error,
            Exception: _on_bug,
        },
    )
    app.state.service = service
    app.state.responses = responses.Responses()
    for room in (completions, responses, messages, models, adapters, probes):
        app.include_router(room.router)
    return Recorder(AnthropicErrors(app), service.metrics)


async def _on_openllm_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OpenLLMError)
    return error_response(error)


async def _on_validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return error_response(from_validation(error, _parameters(request)))


def _parameters(request: Request) -> list[str]:
    """The names that the body of the request's route may have."""
    body = getattr(request.scope.get("route"), "body_field", None)
    return list(getattr(body.field_info.annotation, "model_fields", ())) if body is not None else []


async def _on_http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return from_http(error)


async def _on_bug(_: Request, error: Exception) -> JSONResponse:
    _log.error("a request failed", exc_info=error)
    return error_response(OpenLLMError("The server made a mistake; its log says more."))
