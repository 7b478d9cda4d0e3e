"""``POST /v1/load_lora_adapter`` and ``/v1/unload_lora_adapter``, named and shaped as vLLM's.

Off unless the server was started with ``--allow-adapter-loading``: who may call them may have any folder of the
server's read, and any repository of the hub fetched.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response
from pydantic import Field, StringConstraints

from openllm.api.adapter_loader import AdapterLoader
from openllm.api.documented import Documented
from openllm.api.parameters import Body, Off
from openllm.api.roster import Models
from openllm.api.served import Served
from openllm.api.strict_json import StrictJsonRoute
from openllm.errors import NotAllowed

router = APIRouter(route_class=StrictJsonRoute, tags=["LoRA adapters"])
Name = Annotated[str, StringConstraints(min_length=1, max_length=128)]
# A response class with a media type of its own would be documented as the form of errors too.
_TEXT: Documented = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}


class LoadAdapterRequest(Body):
    """Which adapter, and the name by which requests will choose it."""

    lora_name: Name
    lora_path: Annotated[str, StringConstraints(min_length=1, max_length=4096)] = Field(
        description="A folder of the server's, or org/name[@revision] of the hub."
    )
    load_inplace: Off = Field(default=None, description="Not implemented: unload it first.")
    is_3d_lora_weight: Off = Field(default=None, description="Not implemented.")


class UnloadAdapterRequest(Body):
    """Which adapter."""

    lora_name: Name


@router.post("/v1/load_lora_adapter", summary="Load a LoRA adapter", response_class=Response, responses=_TEXT)
async def load_lora_adapter(body: LoadAdapterRequest, models: Served) -> PlainTextResponse:
    await _loader(models).load(body.lora_name, body.lora_path)
    return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' added successfully.")


@router.post(
    "/v1/unload_lora_adapter",
    summary="Unload a LoRA adapter, once the requests that use it have ended",
    response_class=Response,
    responses=_TEXT,
)
async def unload_lora_adapter(body: UnloadAdapterRequest, models: Served) -> PlainTextResponse:
    await _loader(models).unload(body.lora_name)
    return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' removed successfully.")


def _loader(models: Models) -> AdapterLoader:
    # With several models none has one: adapters are an option of a single model.
    loader = next(iter(models)).adapter_loader
    if loader is None:
        raise NotAllowed(
            "This server does not load or unload adapters.",
            hint="Start it with --allow-adapter-loading, and API keys.",
        )
    return loader
