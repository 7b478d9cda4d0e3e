"""How a route gets the service of its app."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from openllm.api.service import Service


async def get_service(request: Request) -> Service:
    """The one of this app. A coroutine: FastAPI runs plain functions in a thread."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


Served = Annotated[Service, Depends(get_service)]
