"""The models of this server, by the names that requests may say."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

from openllm.api.exchange import EXCHANGE
from openllm.api.metrics import Metrics
from openllm.api.service import Service
from openllm.errors import ModelNotServed, RequestError, quoted
from openllm.fleet.steward import Steward

# Between two looks at a stream: one that was quiet at both is shown to live, so after twice this at the latest.
KEEP_ALIVE_SECONDS = 4.5
_SHOWN = 5  # names of a hint


class Models:
    """One ``Service`` a model, at least one. ``steward`` shares memory between several."""

    def __init__(self, services: Iterable[Service], metrics: Metrics, steward: Steward | None = None) -> None:
        """A name that two services have means the first."""
        self._services = tuple(services)
        self._named: dict[str, Service] = {}
        for service in self._services:
            for name in service.names:
                self._named.setdefault(name, service)
        self.metrics = metrics
        self.steward = steward
        self.draining = False

    def __iter__(self) -> Iterator[Service]:
        return iter(self._services)

    def __len__(self) -> int:
        return len(self._services)

    def find(self, name: str | None) -> Service:
        """The service of a model or of one of its LoRA adapters; of the only model for None.

        Raises ``ModelNotServed``, or ``RequestError`` for None where several are served.
        """
        service = self._only() if name is None else self._named.get(name) or self._by_adapter(name)
        exchange = EXCHANGE.get()
        if exchange is not None:
            exchange.model = service.names[0]
        return service

    def check_name(self, name: str) -> None:
        """Raise ``ModelNotServed`` for a name that nothing here has."""
        if name not in self._named:
            self._by_adapter(name)

    async def pulse(self) -> None:
        """Show quiet streams to live, for ever."""
        while True:
            await asyncio.sleep(KEEP_ALIVE_SECONDS)
            for service in self._services:
                service.pulse()

    def _by_adapter(self, name: str) -> Service:
        for service in self._services:
            if name in service.keeper.adapters:
                return service
        if len(self) == 1:
            hint = f"Use {self._services[0].names[0]!r}."
        else:
            names = [repr(service.names[0]) for service in self._services]
            more = ", or another of /v1/models" if len(names) > _SHOWN else ""
            hint = f"Use one of {', '.join(names[:_SHOWN])}{more}."
        raise ModelNotServed(f"The model {quoted(name)} is not served here.", hint=hint, param="model")

    def _only(self) -> Service:
        if len(self) > 1:
            raise RequestError(
                "Several models are served here.", hint="Name one of /v1/models as model.", param="model"
            )
        return self._services[0]
