"""The whole assembly of the HTTP application."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from openllm import __version__
from openllm.api import completions, embeddings, models, probes, rerank, tokenize
from openllm.api.error_body import error_response, from_http, from_validation
from openllm.api.recorder import Recorder
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
    for room in (completions, embeddings, rerank, tokenize, models, probes):
        app.include_router(room.router)
    return Recorder(app, service.metrics)


async def _on_openllm_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OpenLLMError)
    return error_response(error)


async def _on_validation_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return error_response(from_validation(error))


async def _on_http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return from_http(error)


async def _on_bug(_: Request, error: Exception) -> JSONResponse:
    _log.error("a request failed", exc_info=error)
    return error_response(OpenLLMError("The server made a mistake; its log says more."))
