"""Errors as OpenAI's API words them: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Collection
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from openllm.api.parameters import ChatRequest, CompletionRequest
from openllm.errors import OpenLLMError, RequestError, UnsupportedParameter

_RETRY_AFTER_SECONDS = 1.0
# An error may quote what the client sent, which may be megabytes.
_LONGEST_MESSAGE = 2000
_LONGEST_NAME = 200
_KNOWN = sorted({*ChatRequest.model_fields, *CompletionRequest.model_fields})


def error_body(error: OpenLLMError) -> dict[str, Any]:
    """The JSON of an error; the hint is part of the message, as clients show no other field."""
    message = _short(error.message, _LONGEST_MESSAGE)
    if error.hint is not None:
        message = f"{message} {_short(error.hint, _LONGEST_MESSAGE)}"
    kind = "server_error" if error.status >= 500 else _TYPES.get(error.status, "invalid_request_error")
    param = None if error.param is None else _short(error.param, _LONGEST_NAME)
    return {"error": {"message": message, "type": kind, "param": param, "code": error.code}}


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}..."


_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def error_response(error: OpenLLMError) -> JSONResponse:
    """The whole answer, with Retry-After where trying again makes sense."""
    return _AsciiJson(error_body(error), status_code=error.status, headers=_headers(error))


class _AsciiJson(JSONResponse):
    """An error may quote what the client sent, which need not be text that UTF-8 can say."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, separators=(",", ":")).encode()


def _headers(error: OpenLLMError) -> dict[str, str] | None:
    if error.status not in (429, 503):
        return None
    return {"Retry-After": str(math.ceil(error.retry_after or _RETRY_AFTER_SECONDS))}


def from_validation(error: RequestValidationError, known: Collection[str] = _KNOWN) -> RequestError:
    """The first thing that is wrong with a request body, named by its path. ``known`` are the parameters that one
    may have meant."""
    first = min(error.errors(), key=_importance)
    kind = first["type"]
    path = _short(_path(first["loc"], error.body, kind), _LONGEST_NAME)
    if kind == "json_invalid":
        return RequestError(f"The body is not valid JSON: {first.get('ctx', {}).get('error', first['msg'])}.")
    if not path:
        hint = "Send it with Content-Type: application/json."
        return RequestError("The body must be a JSON object.", hint=hint)
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(path, known, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else "Leave it out."
        return UnsupportedParameter(f"The parameter {path!r} is not supported.", hint=hint, param=path)
    if kind == "missing":
        return RequestError(f"The parameter {path!r} is missing.", hint="Add it.", param=path)
    if kind in ("literal_error", "too_long") and path in _LIMITED:
        return UnsupportedParameter(
            f"This value of {path!r} is not supported.", hint="Leave it out.", param=path
        )
    return RequestError(
        f"The parameter {path!r} is wrong: {first['msg'].removeprefix('Value error, ')}.", param=path
    )


# Known parameters of OpenAI's API of which only the values that change nothing are taken.
_LIMITED = frozenset(
    (
        "modalities.0",
        "service_tier",
        "store",
        "stream_options.include_obfuscation",
        "suffix",
    )
)


def field_names(field: Any) -> list[str]:
    """The names that the body of a route may have; ``field`` is FastAPI's word for that body."""
    return list(getattr(field.field_info.annotation, "model_fields", ())) if field is not None else []


def _importance(problem: dict[str, Any]) -> tuple[bool, int]:
    """First a parameter that we do not have; of the members of a union, the one that fits deepest."""
    return problem["type"] != "extra_forbidden", -len(problem["loc"])


def _path(location: tuple[int | str, ...], body: object, kind: str) -> str:
    """``("body", "stop", "list[str]", 0)`` -> ``stop.0``: only what leads through ``body``, so without the names of
    union members. What is missing is not there, but has its name."""
    steps = location[1:] if location[:1] in (("body",), ("query",), ("path",)) else location
    if not isinstance(body, dict):
        return ".".join(map(str, steps))
    parts = []
    value: Any = body
    for place, step in enumerate(steps):
        if isinstance(value, dict):
            there = step in value
        else:
            there = isinstance(value, list) and isinstance(step, int) and step < len(value)
        if there:
            value = value[step]
        elif kind != "missing" or place < len(steps) - 1:
            continue
        parts.append(str(step))
    return ".".join(parts)


def from_http(error: HTTPException) -> JSONResponse:
    """Routing errors: an unknown path, a wrong method."""
    body = error_body(RequestError(f"{error.detail}.", hint="See /docs for what there is."))
    return JSONResponse(body, status_code=error.status_code, headers=error.headers)
