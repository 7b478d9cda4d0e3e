"""``GET /v1/models``."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from openllm.api.documented import Model, ModelList
from openllm.api.served import Served
from openllm.api.service import Service

router = APIRouter(tags=["OpenAI"])


@router.get("/v1/models", summary="What is served", response_model=ModelList)
async def list_models(models: Served) -> dict[str, Any]:
    return {"object": "list", "data": [model for service in models for model in _models(service)]}


@router.get("/v1/models/{name:path}", summary="One model by any of its names", response_model=Model)
async def get_model(name: str, models: Served) -> dict[str, Any]:
    return _model(models.find(name), name)


def _models(service: Service) -> list[dict[str, Any]]:
    """The model, and each LoRA adapter as a model of its own."""
    names = (service.names[0], *(adapter.name for adapter in service.keeper.adapters.list()))
    return [_model(service, name) for name in names]


def _model(service: Service, name: str) -> dict[str, Any]:
    """``root`` is what it was made from, ``parent`` the model that an adapter changes."""
    adapter = service.keeper.adapters.find(name)
    return {
        "id": name,
        "object": "model",
        "created": service.created,
        "owned_by": "openllm",
        "context_length": service.context,
        "root": adapter.reference if adapter else service.names[0],
        "parent": service.names[0] if adapter else None,
    }
