"""Runs the front: the HTTP server, the keeper of the model's runner, and their common end."""

from __future__ import annotations

import asyncio
import gc
import resource
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn
import uvloop

from openllm.api.access_log import AccessLog
from openllm.api.adapter_loader import AdapterLoader
from openllm.api.app import create_app
from openllm.api.archive import Archive, ArchiveOptions
from openllm.api.attendant import Attendant
from openllm.api.http_protocol import HttpProtocol
from openllm.api.images import Fetcher, Images
from openllm.api.metrics import Metrics
from openllm.api.offer import Offer
from openllm.api.options import FrontOptions
from openllm.api.prompter import Prompter
from openllm.api.recipe_reload import Find, RecipeReload
from openllm.api.recorder import Observe
from openllm.api.roster import Models
from openllm.api.service import Service
from openllm.api.side_lane import lend_quickly
from openllm.api.text_encoder import TextEncoder
from openllm.api.warmer import Warmer
from openllm.chat.tokenizer import load_tokenizer
from openllm.engines.encoding import ENCODER_TASKS
from openllm.fleet.adapters import Served
from openllm.fleet.keeper import Keeper
from openllm.fleet.past_starts import PastStarts
from openllm.fleet.port import BACKLOG
from openllm.fleet.spawn import Spawner
from openllm.fleet.steward import Steward
from openllm.fleet.upkeep import Upkeep
from openllm.fleet.watch import Patience
from openllm.formats.sentence_model import read_sentence_model
from openllm.machine import resident_bytes
from openllm.plan import Plan, footprint
from openllm.servers.operation import Operation
from openllm.weights.manifest import Weights

if TYPE_CHECKING:
    from openllm.api.tracing import Tracer

# Behind the keep-alive of the usual load balancers (60 s), so that it is they who close.
_KEEP_ALIVE_SECONDS = 75
_OPEN_FILES = 65_536
# Hardly any of what a request leaves behind is cyclic; Python's 700 would collect several times a request.
_COLLECT_AFTER = (20_000, 50, 100)


def serve(
    sock: socket.socket,
    offers: Sequence[Offer],
    options: FrontOptions,
    *,
    kept: ArchiveOptions,
    spawner: Spawner,
    operation: Operation,
    find: Find,
) -> None:
    """Serve on ``sock`` until a signal says stop; blocks. SIGTERM or SIGINT drains, a second one stops at once.

    ``kept`` says where files and batches are, ``spawner`` starts runners and is closed at the end, ``operation`` says
    how the server is operated, ``find`` reads recipes anew. Raises what made the first start of the engine impossible,
    unless that is started on demand.
    """
    _allow_connections()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(sock, offers, options, kept, spawner, operation, find))


def _allow_connections() -> None:
    """Let this process have more open files, if its hard limit allows it: each connection is one."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if most == resource.RLIM_INFINITY else min(_OPEN_FILES, most)
    if now != resource.RLIM_INFINITY and now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


async def _serve(
    sock: socket.socket,
    offers: Sequence[Offer],
    options: FrontOptions,
    kept: ArchiveOptions,
    spawner: Spawner,
    operation: Operation,
    find: Find,
) -> None:
    tell = operation.tell
    models = _models(offers, options, spawner, tell)
    observers = [models.metrics.responded]
    if options.access_log != "off":
        observers.append(AccessLog(options.access_log, tell).responded)
    tracer = None if options.otel_endpoint is None else _tracer(options.otel_endpoint)
    if tracer is not None:
        observers.append(tracer.responded)
    archive = Archive(kept)
    if options.keys is not None:
        operation.reloads.append(options.keys.reload)
    for service, offer in zip(models, offers, strict=True):
        operation.reloads.append(RecipeReload(service, offer.supply, find))
    keepers = [service.keeper for service in models]
    attendant = Attendant(operation, sock, keepers)
    server = _Server(models, archive, options, observers, attendant, tell)
    assert archive.routes is not None
    warmer = Warmer(operation.prompts, models, archive.routes, tell)
    for keeper in keepers:
        keeper.start()
    tasks = [asyncio.create_task(warmer.run())]
    await attendant.until_its_turn(warmer)
    tasks += [asyncio.create_task(models.pulse()), asyncio.create_task(archive.open(models, tell))]
    if models.steward is not None:
        tasks.append(asyncio.create_task(models.steward.watch()))
    for keeper in keepers:
        # A model that can never be served ends the server; the held requests have had their error by then.
        keeper.fatal.add_done_callback(lambda _: server.end())
    try:
        await server.serve(sockets=[sock])
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*(keeper.stop(at_once=server.force_exit) for keeper in keepers))
        spawner.close()
        if tracer is not None:
            await asyncio.to_thread(tracer.close)
        attendant.close()
    for keeper in keepers:
        if keeper.fatal.done():
            raise keeper.fatal.result()


def _models(
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


def _tracer(endpoint: str) -> Tracer:
    from openllm.api.tracing import Tracer

    return Tracer.to(endpoint)


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


class _Server(uvicorn.Server):
    """uvicorn, with our signals and our words."""

    def __init__(
        self,
        models: Models,
        archive: Archive,
        options: FrontOptions,
        observers: Iterable[Observe],
        attendant: Attendant,
        tell: Callable[[str], None],
    ) -> None:
        tls = options.tls
        config = uvicorn.Config(
            create_app(models, archive, options, observers),
            loop="none",
            http=HttpProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            backlog=BACKLOG,
            ssl_certfile=None if tls is None else tls.certfile,
            ssl_keyfile=None if tls is None else tls.keyfile,
            ssl_keyfile_password=None if tls is None else tls.password,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            # The drain ends the answers with an error event first; this is for what even then does not end.
            timeout_graceful_shutdown=int(options.drain_seconds) + 2,
        )
        super().__init__(config)
        self._models = models
        self._archive = archive
        self._attendant = attendant
        self._drain_seconds = options.drain_seconds
        self._tell = tell

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What was imported lives to the end: keep it out of every later collection.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_COLLECT_AFTER)
        gc.enable()
        lend_quickly()
        self._attendant.listens(self)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        models = self._models
        models.draining = not self._attendant.replaced
        await self._archive.close()  # first: its answers are made again, what clients wait for is not
        await self._attendant.ease_out()
        models.draining = True
        desks = [service.keeper.desk for service in models]
        open_sequences = sum(map(len, desks))
        if open_sequences and not self.force_exit:
            self._tell(
                f"draining: {open_sequences} sequences, at most {self._drain_seconds:.0f} s; again to stop now"
            )
        for desk in desks:
            asyncio.get_running_loop().call_later(
                self._drain_seconds, desk.fail_all, "The server is stopping."
            )
        await super().shutdown(sockets)

    def end(self) -> None:
        """Drain and stop, as on a signal."""
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True
