"""From what is offered to what serves it: a keeper and a service for each model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from openllm.api.adapter_loader import AdapterLoader
from openllm.api.images import Fetcher, Images
from openllm.api.metrics import Metrics
from openllm.api.offer import Offer
from openllm.api.options import FrontOptions
from openllm.api.prompter import Prompter
from openllm.api.roster import Models
from openllm.api.service import Service
from openllm.api.text_encoder import TextEncoder
from openllm.chat.tokenizer import load_tokenizer
from openllm.engines.encoding import ENCODER_TASKS
from openllm.fleet.adapters import Served
from openllm.fleet.keeper import Keeper
from openllm.fleet.past_starts import PastStarts
from openllm.fleet.spawn import Spawner
from openllm.fleet.steward import Steward
from openllm.fleet.upkeep import Upkeep
from openllm.fleet.watch import Patience
from openllm.formats.sentence_model import read_sentence_model
from openllm.machine import resident_bytes
from openllm.plan import Plan, footprint
from openllm.weights.manifest import Weights


def assemble(
    offers: Sequence[Offer], options: FrontOptions, spawner: Spawner, tell: Callable[[str], None]
) -> Models:
    """A service for each offer; several share memory and are started on demand."""
    metrics = Metrics()
    steward = None
    if options.memory is not None:
        steward = Steward(options.memory, options.patience, clock=time.monotonic, measure=resident_bytes)
    fetcher = _image_fetcher(options.image_hosts)
    return Models(
        [_service(each, options, metrics, steward, fetcher, spawner, tell) for each in offers],
        metrics,
        steward,
    )


def _service(
    offer: Offer,
    options: FrontOptions,
    metrics: Metrics,
    steward: Steward | None,
    fetcher: Fetcher | None,
    spawner: Spawner,
    tell: Callable[[str], None],
) -> Service:
    supply, plan = offer.supply, offer.supply.plan
    place = None
    if steward is not None:
        on_cpu = plan.device == "cpu"  # a GPU's memory does not show in the process
        place = steward.place(offer.names[0], footprint(plan).total, pinned=offer.pinned, measured=on_cpu)
        tell = partial(_tell_of, offer.names[0], tell)
    keeper = Keeper(
        supply,
        metrics,
        early=offer.early,
        spawner=spawner,
        upkeep=Upkeep(
            idle_seconds=options.idle_seconds,
            on_demand=options.start_asleep or place is not None,
            pinned=offer.pinned,
        ),
        patience=Patience(stall=options.stall_seconds, load=options.load_seconds),
        tell=tell,
        adapters=[Served(each.name, each.reference) for each in plan.adapters],
        past=PastStarts(supply.cache, _key(plan)),
        gate=place,
        replicas=plan.replicas,
    )
    if place is not None:
        place.keeper = keeper
    service = Service(
        offer.names,
        keeper,
        metrics,
        context=plan.context,
        queue=offer.queue,
        task=plan.manifest.task,
        engine=plan.engine,
        device=plan.device,
    )
    service.images = Images(plan.sees, fetcher)
    if plan.adapter_loading:
        service.adapter_loader = AdapterLoader(keeper, supply, offer.names)
    supply.on_weights = _PrompterLoader(service, plan, supply.cache)
    return service


def _tell_of(name: str, tell: Callable[[str], None], text: str) -> None:
    tell(f"{name}: {text}")


def _key(plan: Plan) -> str:
    """What makes one start take as long as another."""
    return f"{plan.name} {plan.manifest.variant} {plan.engine} {plan.device} {plan.quantization}"


def _image_fetcher(hosts: tuple[str, ...]) -> Fetcher | None:
    if not hosts:
        return None
    from openllm.api.image_fetcher import ImageFetcher  # brings an HTTP client that few need

    return ImageFetcher(hosts)


class _PrompterLoader:
    """Loads the tokenizer beside the engine, as soon as the weights are here."""

    def __init__(self, service: Service, plan: Plan, cache: Path) -> None:
        self._service = service
        self._plan = plan
        self._cache = cache

    async def __call__(self, weights: Weights) -> None:
        """Set the service's prompter. Raises what is wrong with the tokenizer."""
        manifest, context, path = self._plan.manifest, self._plan.context, Path(weights.tokenizer)
        chat = manifest.chat
        tokenizer = await asyncio.to_thread(load_tokenizer, path, self._cache, chat.stop)
        if manifest.task in ENCODER_TASKS:
            self._service.encoder = TextEncoder(
                tokenizer,
                read_sentence_model(path),
                manifest.embedding,
                context=context,
                width=manifest.shape.hidden,
            )
        # The engine's rows may be more than the tokenizer's tokens.
        self._service.keeper.desk.vocabulary = max(manifest.shape.vocabulary, tokenizer.vocabulary)
        if not self._service.prompter.done():  # a start that failed after this is tried again
            self._service.prompter.set_result(Prompter(tokenizer, chat, self._plan.context))
