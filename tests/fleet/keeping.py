"""A real keeper, whose runners are real processes, most with the echo engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import psutil

from openllm.api.metrics import Metrics
from openllm.engines.base import EngineConfig
from openllm.fleet.keeper import Keeper
from openllm.fleet.restart import RestartPolicy
from openllm.fleet.spawn import Spawned, Spawner
from openllm.fleet.upkeep import Gate, Upkeep
from openllm.fleet.watch import Patience

ECHO = EngineConfig(
    engine="echo",
    path="",
    name="echo",
    dtype="auto",
    quantization="none",
    context=4096,
    max_sequences=256,
    kv_cache_bytes=0,
    threads=1,
    cache="",
    options={"delay": "0.005"},
)
QUICK = RestartPolicy(second=0.05, longest=0.2)


@asynccontextmanager
async def keeping(
    config: EngineConfig = ECHO,
    policy: RestartPolicy = QUICK,
    patience: Patience | None = None,
    *,
    upkeep: Upkeep | None = None,
    early: Spawned | None = None,
    spawner: Spawner | None = None,
    gate: Gate | None = None,
    tell: Callable[[str], None] = print,
    replicas: int = 1,
) -> AsyncIterator[Keeper]:
    """A keeper that has begun; at the end of the block no runner of it is left."""

    async def supply(_: object) -> EngineConfig:
        return config

    keeper = Keeper(
        supply,
        Metrics(),
        early=early,
        spawner=spawner,
        policy=policy,
        patience=patience,
        upkeep=upkeep,
        tell=tell,
        gate=gate,
        replicas=replicas,
    )
    keeper.start()
    try:
        yield keeper
    finally:
        pids = keeper.pids
        await keeper.stop(at_once=False)
        assert not [pid for pid in pids if psutil.pid_exists(pid)]
