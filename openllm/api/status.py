"""``GET /api/status``: what the model's engine is doing, and what it takes."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from openllm import __version__
from openllm.api.progress import progress_body
from openllm.api.served import Served
from openllm.api.service import Service
from openllm.fleet.duration import NEVER
from openllm.fleet.keeper import Keeper
from openllm.fleet.replica import Replica
from openllm.fleet.state import State
from openllm.machine import resident_bytes

router = APIRouter(tags=["Probes"])


class ReplicaStatus(BaseModel):
    """Of one engine of a model."""

    replica: int = Field(description="Counted from 0.")
    state: str
    doing: str
    pid: int | None
    resident_bytes: int | None
    running: int = Field(description="Sequences that it has.")
    restarts: int


class ModelStatus(BaseModel):
    """Of one model. Times are seconds since 1970, durations seconds."""

    name: str
    state: str
    doing: str
    since: float = Field(description="When it came into this state.")
    fraction: float | None = Field(description="The part of what is being done that is behind us, if known.")
    eta_seconds: float | None = Field(description="Until the engine answers, judged by earlier starts.")
    pid: int | None = Field(description="Of the first runner.")
    resident_bytes: int | None = Field(description="What all runners hold in memory.")
    engine: str
    device: str
    context: int
    queued: int = Field(description="Sequences that no engine has got yet.")
    running: int = Field(description="Sequences that engines have.")
    idle_seconds: float = Field(description="Since the last request was over.")
    keep_alive_seconds: float | None = Field(
        description="After so long without one it is unloaded; null: never."
    )
    asleep_seconds: float = Field(description="Without a runner, in all.")
    pinned: bool
    wakes: int
    restarts: int
    replicas: list[ReplicaStatus]


class MemoryStatus(BaseModel):
    """What several models share, in bytes."""

    budget: int
    used: int


class ServerStatus(BaseModel):
    """Of the whole server."""

    version: str
    draining: bool
    memory: MemoryStatus | None = Field(description="Null where there is one model.")
    models: list[ModelStatus]


@router.get("/api/status", summary="What the engine is doing; wakes nothing", response_model=ServerStatus)
async def status(models: Served) -> dict[str, Any]:
    steward = models.steward
    return {
        "version": __version__,
        "draining": models.draining,
        "memory": None if steward is None else {"budget": steward.budget, "used": steward.held()},
        "models": [await _model(service) for service in models],
    }


async def _model(service: Service) -> dict[str, Any]:
    keeper = service.keeper
    desk = keeper.desk
    replicas = [await _replica(keeper, replica) for replica in keeper.replicas]
    held = [each["resident_bytes"] for each in replicas if each["resident_bytes"] is not None]
    now, clock = time.time(), time.monotonic()
    return {
        "name": service.names[0],
        **progress_body(keeper),
        "since": round(now - (clock - keeper.course.since), 3),
        "pid": keeper.pid,
        "resident_bytes": sum(held) if held else None,
        "engine": service.engine,
        "device": service.device,
        "context": service.context,
        "queued": desk.queued() + desk.queued(background=True),
        "running": desk.at_runner,
        "idle_seconds": round(keeper.idle_seconds(), 3),
        "keep_alive_seconds": None if keeper.keep_alive == NEVER else keeper.keep_alive,
        "asleep_seconds": round(keeper.course.asleep_seconds(), 3),
        "pinned": keeper.upkeep.pinned,
        "wakes": keeper.wakes,
        "restarts": keeper.restarts,
        "replicas": replicas,
    }


async def _replica(keeper: Keeper, replica: Replica) -> dict[str, Any]:
    pid = replica.pid
    # Where its model sleeps, is fetched or ends, a replica has nothing to say.
    speaks = replica.state is not State.ASLEEP and not keeper.gate.is_shut
    return {
        "replica": replica.number,
        "state": str(replica.state if speaks else keeper.state),
        "doing": replica.doing if speaks else keeper.doing,
        "pid": pid,
        "resident_bytes": None if pid is None else await asyncio.to_thread(resident_bytes, pid),
        "running": len(keeper.desk.posts[replica.number].at_runner),
        "restarts": replica.restarts,
    }
