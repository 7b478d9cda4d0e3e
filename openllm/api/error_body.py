"""Errors as OpenAI's API words them: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

import difflib
import math
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from openllm.api.parameters import ChatRequest, CompletionRequest
from openllm.errors import OpenLLMError, RequestError, UnsupportedParameter

_RETRY_AFTER_SECONDS = 1.0
_KNOWN = sorted({*ChatRequest.model_fields, *CompletionRequest.model_fields})


def error_body(error: OpenLLMError) -> dict[str, Any]:
    """The JSON of an error; the hint is part of the message, as clients show no other field."""
    message = error.message if error.hint is None else f"{error.message} {error.hint}"
    kind = "server_error" if error.status >= 500 else _TYPES.get(error.status, "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": error.param, "code": error.code}}


_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def error_response(error: OpenLLMError) -> JSONResponse:
    """The whole answer, with Retry-After where trying again makes sense."""
    return JSONResponse(error_body(error), status_code=error.status, headers=_headers(error))


def _headers(error: OpenLLMError) -> dict[str, str] | None:
    if error.status not in (429, 503):
        return None
    return {"Retry-After": str(math.ceil(error.retry_after or _RETRY_AFTER_SECONDS))}


def from_validation(error: RequestValidationError) -> RequestError:
    """The first thing that is wrong with a request body, named by its path."""
    first = min(error.errors(), key=_importance)
    kind = first["type"]
    path = _path(first["loc"])
    if kind == "json_invalid":
        return RequestError(f"The body is not valid JSON: {first.get('ctx', {}).get('error', first['msg'])}.")
    if not path:
        hint = "Send it with Content-Type: application/json."
        return RequestError("The body must be a JSON object.", hint=hint)
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(path, _KNOWN, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else "Leave it out."
        return UnsupportedParameter(f"The parameter {path!r} is not supported.", hint=hint, param=path)
    if kind == "missing":
        return RequestError(f"The parameter {path!r} is missing.", hint="Add it.", param=path)
    if kind in ("literal_error", "too_long") and path in _LIMITED:
        return UnsupportedParameter(
            f"This value of {path!r} is not supported.", hint="Leave it out.", param=path
        )
    return RequestError(f"The parameter {path!r} is wrong: {first['msg']}.", param=path)


# Known parameters of OpenAI's API of which only the values that change nothing are taken.
_LIMITED = frozenset(
    (
        "echo",
        "logit_bias",
        "logprobs",
        "modalities.0",
        "response_format.type",
        "service_tier",
        "store",
        "stream_options.include_obfuscation",
        "suffix",
        "tool_choice",
        "tools",
        "top_logprobs",
    )
)


def _importance(problem: dict[str, Any]) -> tuple[bool, int]:
    """First a parameter that we do not have; of the members of a union, the one that fits deepest."""
    return problem["type"] != "extra_forbidden", -len(problem["loc"])


def _path(location: tuple[int | str, ...]) -> str:
    """``("body", "stop", "list[str]", 0)`` -> ``stop.0``: without the names of union members."""
    parts = [str(part) for part in location[1:]]  # behind "body", "query" or "path"
    named = [part for part in parts[1:] if part.isidentifier() or part.isdigit()]
    return ".".join([*parts[:1], *(part for part in named if part not in _UNION_MEMBERS)])


_UNION_MEMBERS = frozenset(("str", "int", "StreamOptions", "TextFormat", "constrained"))


def from_http(error: HTTPException) -> JSONResponse:
    """Routing errors: an unknown path, a wrong method."""
    body = error_body(RequestError(f"{error.detail}.", hint="See /docs for what there is."))
    return JSONResponse(body, status_code=error.status_code, headers=error.headers)
