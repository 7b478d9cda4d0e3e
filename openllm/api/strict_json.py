"""Bodies are read as JSON by the letter, whatever their content type says; large ones beside the event loop.

Python's own parser takes what no JSON is, and what it makes of that fails later, where text is encoded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope

from openllm.api.body_limit import LONG_TEXTS
from openllm.api.error_body import field_names, from_validation
from openllm.api.long_json import read_json
from openllm.api.side_lane import LARGE, QUICK_BYTES, aside
from openllm.errors import OpenLLMError, RequestError


class StrictJsonRoute(APIRoute):
    """A route whose body is strict JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            strict = _StrictJsonRequest(request.scope, request.receive, self.body_field)
            try:
                return await handle(strict)
            except HTTPException:
                if strict.refusal is None:
                    raise
                raise strict.refusal from None

        return strictly


class _StrictJsonRequest(Request):
    """``refusal`` is what is wrong with a large body: FastAPI lets nothing but HTTP's errors through."""

    def __init__(self, scope: Scope, receive: Receive, field: Any) -> None:
        super().__init__(scope, receive)
        self.refusal: OpenLLMError | None = None
        self._field = field

    async def json(self) -> Any:
        """Raises ``JSONDecodeError``, which is answered with 400. What a large body says is already checked."""
        body = await self.body()
        LARGE.set(len(body) > QUICK_BYTES)
        if not LARGE.get():
            return read_json(body)
        try:
            return await aside(lambda: self._checked(body))
        except OpenLLMError as error:
            self.refusal = error
            raise HTTPException(error.status) from None

    def _checked(self, body: bytes) -> Any:
        """The body as its route's model; FastAPI takes it as it is, where it would check the values on the loop."""
        try:
            value = read_json(body, self.scope.get(LONG_TEXTS, ()))
        except json.JSONDecodeError as error:
            raise RequestError(f"The body is not valid JSON: {error.msg}.") from None
        checked, errors = self._field.validate(value, {}, loc=("body",))
        if errors:
            raise from_validation(RequestValidationError(errors, body=value), field_names(self._field))
        return checked
