"""Loads LoRA adapters into a running server, after every check that needs no engine."""

from __future__ import annotations

import asyncio
from pathlib import Path

from openllm.engines.base import AdapterFiles
from openllm.errors import InvalidAdapter, WeightsError
from openllm.fleet.adapters import Served
from openllm.fleet.keeper import Keeper
from openllm.fleet.supply import Supply
from openllm.plan import check_adapters
from openllm.weights.adapter import Adapter, AdapterRef, adapter_source, check_name, read_adapter
from openllm.weights.manifest import HubFiles, LocalPath
from openllm.weights.model_tree import FolderTree


class AdapterLoader:
    """``names`` are the model's own, which no adapter may have."""

    def __init__(self, keeper: Keeper, supply: Supply, names: tuple[str, ...]) -> None:
        self._keeper = keeper
        self._supply = supply
        self._names = names

    async def load(self, name: str, where: str) -> None:
        """Load the adapter of a folder of this machine or of a hub id, fetched first, and serve it as ``name``.

        Raises ``InvalidAdapter`` if it cannot be applied, ``WeightsError`` or ``UnknownModel`` if it cannot be
        fetched, ``RunnerError`` if the engine is not ready.
        """
        check_name(name)
        if name in self._names:
            raise InvalidAdapter(
                f"{name!r} is the model's own name.", hint="Choose another name.", param="lora_name"
            )
        source = adapter_source(where)
        folder = Path(source.path) if isinstance(source, LocalPath) else await self._fetched(where)
        self._check(await asyncio.to_thread(_facts, AdapterRef(name, where), source, folder))
        await self._keeper.until_ready()
        await self._keeper.adapters.load(Served(name, where), AdapterFiles(name, str(folder)))

    async def unload(self, name: str) -> None:
        """See ``fleet.adapters.Adapters.unload``. Wakes a model that is asleep."""
        await self._keeper.until_ready()
        await self._keeper.adapters.unload(name)

    async def _fetched(self, where: str) -> Path:
        weights = await self._supply.adapter(where, adapter_source(where), lambda *_: None)
        return Path(weights.path)

    def _check(self, adapter: Adapter) -> None:
        plan = self._supply.plan
        check_adapters([adapter], plan.manifest)
        if adapter.rank > plan.max_adapter_rank:
            raise InvalidAdapter(
                f"The adapter {adapter.name} has the rank {adapter.rank}; this server has room for"
                f" {plan.max_adapter_rank}.",
                hint=f"Start it with --max-adapter-rank {adapter.rank}.",
                param="lora_path",
            )


def _facts(ref: AdapterRef, source: HubFiles | LocalPath, folder: Path) -> Adapter:
    try:
        return read_adapter(ref, source, FolderTree(folder))
    except WeightsError as error:  # what a client names and the server cannot read is the client's to correct
        raise InvalidAdapter(error.message, hint=error.hint, param="lora_path") from error
