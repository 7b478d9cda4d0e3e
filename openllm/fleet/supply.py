"""Brings a plan's weights, by a child process if they must be fetched, and says what the engine is to load."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from openllm.engines.base import AdapterFiles, EngineConfig
from openllm.engines.engine_config import engine_config
from openllm.fleet.pulling import Tell, pull
from openllm.plan import Plan
from openllm.weights.adapter import adapter_manifest
from openllm.weights.local import open_local
from openllm.weights.manifest import HubFiles, LocalPath, Manifest, Weights
from openllm.weights.progress import Reporter
from openllm.weights.pull_messages import PullRequest
from openllm.weights.settings import HubSettings
from openllm.weights.store import Store


class Supply:
    """The weights of one plan. ``on_weights`` is awaited when they are here, before the engine is told."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        hub: HubSettings,
        reporter: Reporter,
        *,
        offline: bool,
        engine_options: dict[str, str],
    ) -> None:
        self.plan = plan
        self.on_weights: Callable[[Weights], Awaitable[None]] | None = None
        self._store = store
        self._hub = hub
        self._reporter = reporter
        self._offline = offline
        self._engine_options = engine_options

    @property
    def cache(self) -> Path:
        """The folder for what is made once from weights."""
        return self._store.root

    def here(self) -> Weights | None:
        """The weights, if nothing must be fetched. Quick. Raises ``WeightsError`` for damaged local files."""
        manifest = self.plan.manifest
        if isinstance(manifest.source, LocalPath):
            return open_local(manifest.source, manifest.format)
        return self._store.ready(manifest)

    async def __call__(self, progress: Tell) -> EngineConfig:
        """Fetch what is missing, telling ``progress``; what the engine is to load. Raises ``WeightsError``."""
        weights = self.here()
        if weights is None:
            weights = await pull(self._request(self.plan.manifest), self._reporter, progress)
        adapters = [
            AdapterFiles(each.name, (await self.adapter(each.reference, each.source, progress)).path)
            for each in self.plan.adapters
        ]
        if self.on_weights is not None:
            await self.on_weights(weights)
        return self.config(weights, tuple(adapters))

    def adapters_here(self) -> tuple[AdapterFiles, ...] | None:
        """The plan's LoRA adapters, if none must be fetched. Quick. Raises ``WeightsError``."""
        found = []
        for adapter in self.plan.adapters:
            folder = self._adapter_here(adapter.reference, adapter.source)
            if folder is None:
                return None
            found.append(AdapterFiles(adapter.name, folder.path))
        return tuple(found)

    async def adapter(self, name: str, source: HubFiles | LocalPath, progress: Tell) -> Weights:
        """A LoRA adapter's folder, fetched by a child process if it must be. Raises ``WeightsError``."""
        here = self._adapter_here(name, source)
        return here or await pull(self._request(adapter_manifest(name, source)), self._reporter, progress)

    def _adapter_here(self, name: str, source: HubFiles | LocalPath) -> Weights | None:
        if isinstance(source, LocalPath):
            return open_local(source, "lora")
        return self._store.ready(adapter_manifest(name, source))

    def config(self, weights: Weights, adapters: tuple[AdapterFiles, ...] = ()) -> EngineConfig:
        """What the engine is to load."""
        made = engine_config(self.plan, weights, self.cache, self._engine_options)
        return msgspec.structs.replace(made, adapters=adapters)

    def _request(self, manifest: Manifest) -> PullRequest:
        root = str(self._store.root)
        return PullRequest(manifest=manifest, store=root, hub=self._hub, offline=self._offline)
