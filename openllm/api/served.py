"""How a route gets the models of its app."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from openllm.api.roster import Models


async def get_models(request: Request) -> Models:
    """Those of this app. A coroutine: FastAPI runs plain functions in a thread."""
    models = request.app.state.models
    assert isinstance(models, Models)
    return models


Served = Annotated[Models, Depends(get_models)]
