"""Liveness, readiness and metrics: for an orchestrator, not for clients."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from openllm.api.documented import Life, Readiness
from openllm.api.served import Served

router = APIRouter(tags=["Probes"])
_PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"


@router.get("/livez", summary="Does the front run?", response_model=Life)
async def livez() -> dict[str, str]:
    return {"status": "ok"}


@router.get(
    "/readyz",
    summary="Does the engine answer, or will it when asked? 503 while it is loading first, ended or wedged",
    responses={200: {"model": Readiness}, 503: {"model": Readiness}},
)
async def readyz(models: Served) -> JSONResponse:
    # Looking wakes nothing. Of several models one that can answer is enough: the others are not helped by a restart.
    keepers = [service.keeper for service in models]
    keeper = next((each for each in keepers if each.available), keepers[0])
    ready = keeper.available and not models.draining
    doing = "the engine does not answer" if keeper.wedged else keeper.doing
    if models.draining:
        doing = "draining"
    body = {"status": "ready" if ready else "not ready", "state": str(keeper.state), "doing": doing}
    return JSONResponse(body, status_code=200 if ready else 503)


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={200: {"content": {_PROMETHEUS_TEXT: {"schema": {"type": "string"}}}}},
)
async def metrics(models: Served) -> Response:
    keepers = {service.names[0]: service.keeper for service in models}
    return Response(models.metrics.text(keepers), media_type=_PROMETHEUS_TEXT)
