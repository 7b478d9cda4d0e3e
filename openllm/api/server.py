"""Runs the front: the HTTP server, the keeper of the model's runner, and their common end."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import uvloop

from openllm.api.access_log import AccessLog
from openllm.api.archive import Archive, ArchiveOptions
from openllm.api.assembly import assemble
from openllm.api.attendant import Attendant
from openllm.api.http_server import HttpServer
from openllm.api.metrics import Metrics
from openllm.api.offer import Offer
from openllm.api.options import FrontOptions
from openllm.api.recipe_reload import Find, RecipeReload
from openllm.api.recorder import Observe
from openllm.api.warmer import Warmer
from openllm.fleet.spawn import Spawner
from openllm.servers.operation import Operation

if TYPE_CHECKING:
    from openllm.api.tracing import Tracer

_OPEN_FILES = 65_536


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
    models = assemble(offers, options, spawner, tell)
    tracer = None if options.otel_endpoint is None else _tracer(options.otel_endpoint)
    observers = list(_observers(models.metrics, options, tracer, tell))
    archive = Archive(kept)
    if options.keys is not None:
        operation.reloads.append(options.keys.reload)
    for service, offer in zip(models, offers, strict=True):
        operation.reloads.append(RecipeReload(service, offer.supply, find))
    keepers = [service.keeper for service in models]
    attendant = Attendant(operation, sock, keepers)
    server = HttpServer(models, archive, options, observers, attendant, tell)
    assert archive.routes is not None
    warmer = Warmer(operation.prompts, models, archive.routes, tell)
    for keeper in keepers:
        keeper.start()
    tasks = [asyncio.create_task(warmer.run())]
    if models.steward is not None:
        tasks.append(asyncio.create_task(models.steward.watch()))
    try:
        if await attendant.until_its_turn(warmer):
            tasks += [asyncio.create_task(models.pulse()), asyncio.create_task(archive.open(models, tell))]
            for keeper in keepers:
                # A model that can never be served ends the server; the held requests have had their error by then.
                keeper.fatal.add_done_callback(lambda _: server.end())
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


def _observers(
    metrics: Metrics, options: FrontOptions, tracer: Tracer | None, tell: Callable[[str], None]
) -> Iterator[Observe]:
    """Who is shown each request that is over."""
    yield metrics.responded
    if options.access_log != "off":
        yield AccessLog(options.access_log, tell).responded
    if tracer is not None:
        yield tracer.responded


def _tracer(endpoint: str) -> Tracer:
    from openllm.api.tracing import Tracer

    return Tracer.to(endpoint)
