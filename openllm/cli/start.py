"""``openllm start``: serve a model."""

from __future__ import annotations

import errno
import gc
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openllm.cli.options import ModelName, PlanOptions, parse_size, takes_plan_options
from openllm.cli.say import note
from openllm.cli.settings import data_folder
from openllm.errors import MachineError, PortInUse, UsageError

if TYPE_CHECKING:
    import socket

    from openllm.batches.storage import DataFolder
    from openllm.cli.settings import Settings
    from openllm.fleet.spawn import Spawned
    from openllm.fleet.supply import Supply
    from openllm.plan import Plan

_HELD_PER_RUNNING = 16  # how many sequences may wait for each that can run
_LEAST_OPEN = 2048
# As parse_size reads them; 200 MB is what OpenAI takes as a batch's input.
_DATA_LIMIT: Any = "10GiB"
_MAX_UPLOAD: Any = "200MB"


@takes_plan_options
def start(
    model: ModelName,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 3000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and do nothing.")] = False,
    drain_timeout: Annotated[
        float, typer.Option(min=0, help="Seconds that open answers have to end after SIGTERM.")
    ] = 30.0,
    stall_timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds without a step after which a busy engine is not ready.")
    ] = 60.0,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of uploaded files and batches; one server at a time.")
    ] = None,
    data_limit: Annotated[
        int,
        typer.Option(parser=parse_size, metavar="SIZE", help="Most bytes of all uploaded files together."),
    ] = _DATA_LIMIT,
    max_upload: Annotated[
        int, typer.Option(parser=parse_size, metavar="SIZE", help="Most bytes of one uploaded file.")
    ] = _MAX_UPLOAD,
    engine_option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="An option of the engine's own; repeatable.")
    ] = None,
    *,
    options: PlanOptions,
) -> None:
    """Serve a model behind an OpenAI-compatible API."""
    if dry_run:
        _print_plan(model, options)
        return
    engine_options = _pairs(engine_option or [])
    sock = _listen(host, port)
    early = _spawn_early(options)
    gc.disable()  # imports leave lasting objects only; the server collects once and goes on as usual
    try:
        from openllm.cli.resolve import resolve

        settings = options.settings()
        plan = resolve(model, options.overrides(), settings)
        supply = _supply(plan, settings, engine_options)
        folder = _data(data_dir)
        weights = supply.here()
        if weights is not None:
            early.load(supply.config(weights))
    except BaseException:
        early.child.kill()
        raise
    _serve(sock, model, supply, folder, data_limit, max_upload, early, drain_timeout, stall_timeout)


def _print_plan(model: str, options: PlanOptions) -> None:
    from openllm.cli.plan import print_plan
    from openllm.cli.resolve import resolve

    print_plan(resolve(model, options.overrides(), options.settings()))


def _listen(host: str, port: int) -> socket.socket:
    from openllm.fleet.port import listen

    try:
        return listen(host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(
                f"Port {port} on {host} is taken.", hint="Stop what listens there, or choose another --port."
            ) from error
        raise UsageError(
            f"Cannot listen on {host}:{port}: {error.strerror}.", hint="Choose another --host or --port."
        ) from error


def _data(option: Path | None) -> DataFolder | MachineError:
    """The folder of files and batches, or why there is none. Raises that if the user insists on the folder."""
    from openllm.batches.storage import default_root, lock_folder

    chosen = data_folder(option)
    try:
        return lock_folder(chosen or default_root())
    except MachineError as error:
        if chosen is not None:
            raise
        return error


def _pairs(options: list[str]) -> dict[str, str]:
    for option in options:
        if "=" not in option:
            raise UsageError(f"--engine-option {option!r} is not KEY=VALUE.", hint="Write KEY=VALUE.")
    return dict(option.split("=", 1) for option in options)


def _supply(plan: Plan, settings: Settings, engine_options: dict[str, str]) -> Supply:
    from openllm.fleet.supply import Supply
    from openllm.weights.progress import reporter_for
    from openllm.weights.store import Store

    return Supply(
        plan,
        Store(settings.cache),
        settings.hub,
        reporter_for(),
        offline=settings.offline,
        engine_options=engine_options,
    )


def _spawn_early(options: PlanOptions) -> Spawned:
    """A runner that imports the engine which the plan will most likely choose, while this process plans and
    imports the HTTP server. If the plan chooses another, that one is imported when it is told."""
    from openllm.fleet.spawn import spawn

    likely = options.backend or ("vllm" if shutil.which("nvidia-smi") else "openvino")
    return spawn(likely, threads=options.threads)


def _serve(
    sock: socket.socket,
    model: str,
    supply: Supply,
    folder: DataFolder | MachineError,
    data_limit: int,
    max_upload: int,
    early: Spawned,
    drain_seconds: float,
    stall_seconds: float,
) -> None:
    plan = supply.plan
    from openllm.fleet.port import address

    note(f"{plan.name}: {plan.engine} on {plan.device}, {plan.quantization}, context {plan.context}")

    # True from here on: the kernel accepts and queues connections while the server is imported.
    note(f"listening on {address(sock)}")
    from openllm.api.archive import ArchiveOptions
    from openllm.api.server import FrontOptions, serve

    front = FrontOptions(
        names=tuple(dict.fromkeys((plan.name, model))),
        most_open=max(_LEAST_OPEN, _HELD_PER_RUNNING * plan.concurrency),
        drain_seconds=drain_seconds,
        stall_seconds=stall_seconds,
    )
    kept = ArchiveOptions(
        folder=folder, most_bytes=data_limit, longest_upload=max_upload, width=plan.concurrency
    )
    serve(sock, supply, front, kept=kept, early=early, tell=note)
