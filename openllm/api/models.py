"""``GET /v1/models``."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from openllm.api.documented import Model, ModelList
from openllm.api.served import Served
from openllm.api.service import Service

router = APIRouter(tags=["OpenAI"])


@router.get("/v1/models", summary="What is served", response_model=ModelList)
async def list_models(service: Served) -> dict[str, Any]:
    return {"object": "list", "data": [_model(service, service.names[0])]}


@router.get("/v1/models/{name:path}", summary="One model by any of its names", response_model=Model)
async def get_model(name: str, service: Served) -> dict[str, Any]:
    service.check_name(name)
    return _model(service, name)


def _model(service: Service, name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": service.created,
        "owned_by": "openllm",
        "context_length": service.context,
    }
