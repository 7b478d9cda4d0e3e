"""Bodies are read as JSON by the letter: UTF-8, no NaN, and no half of a surrogate pair.

Python's parser takes these, and what it makes of them fails later, where text is encoded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from fastapi import Request, Response
from fastapi.routing import APIRoute


class StrictJsonRoute(APIRoute):
    """A route whose body is strict JSON, whatever its content type says."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await handle(_StrictJsonRequest(request.scope, request.receive))

        return strictly


class _StrictJsonRequest(Request):
    async def json(self) -> Any:
        """Raises ``JSONDecodeError``, which is answered with 400."""
        try:
            return msgspec.json.decode(await self.body())
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise json.JSONDecodeError(str(error), "", 0) from None
