"""``openllm start``: serve a model."""

from __future__ import annotations

import errno
import gc
import shutil
from typing import TYPE_CHECKING, Annotated

import typer

from openllm.cli.data import DataChoices, takes_data_choices
from openllm.cli.front import FrontChoices, takes_front_choices
from openllm.cli.options import ModelName, PlanOptions, takes_plan_options
from openllm.cli.say import note
from openllm.errors import PortInUse, UnsupportedOption, UsageError

if TYPE_CHECKING:
    import socket

    from openllm.batches.storage import DataFolder
    from openllm.cli.front import Guard
    from openllm.cli.settings import Settings
    from openllm.errors import MachineError
    from openllm.fleet.spawn import Spawned
    from openllm.fleet.supply import Supply
    from openllm.plan import Plan


@takes_plan_options
@takes_front_choices
@takes_data_choices
def start(
    model: ModelName,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 3000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and do nothing.")] = False,
    engine_option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="An option of the engine's own; repeatable.")
    ] = None,
    allow_image_urls: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST", help="Fetch images of messages from this host, or * for any; repeatable."
        ),
    ] = None,
    *,
    options: PlanOptions,
    front: FrontChoices,
    data: DataChoices,
) -> None:
    """Serve a model behind an OpenAI-compatible API."""
    if dry_run:
        _print_plan(model, options)
        return
    engine_options = _pairs(engine_option or [])
    guard = front.guard(host)
    sock = _listen(host, port)
    early = None if front.start_asleep else _spawn_early(options)
    gc.disable()  # imports leave lasting objects only; the server collects once and goes on as usual
    try:
        from openllm.cli.resolve import resolve

        settings = options.settings()
        plan = resolve(model, options.overrides(), settings)
        _check_images(plan, allow_image_urls)
        supply = _supply(plan, settings, engine_options)
        folder = data.folder()
        if early is not None:
            _load_early(early, supply)
    except BaseException:
        if early is not None:
            early.child.kill()
        raise
    _serve(sock, model, supply, early, front, guard, data, folder, tuple(allow_image_urls or ()))


def _check_images(plan: Plan, hosts: list[str] | None) -> None:
    if hosts and not plan.sees:
        raise UnsupportedOption(
            f"{plan.name} on {plan.engine} takes text only; --allow-image-urls changes nothing.",
            hint="Leave it out, or serve a vision model with --backend vllm.",
            param="allow_image_urls",
        )


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

    on_vllm = options.adapters or options.allow_adapter_loading or shutil.which("nvidia-smi")
    likely = options.backend or ("vllm" if on_vllm else "openvino")
    return spawn(likely, threads=options.threads)


def _load_early(early: Spawned, supply: Supply) -> None:
    """Tell the runner what to load, if nothing must be fetched."""
    weights, adapters = supply.here(), supply.adapters_here()
    if weights is not None and adapters is not None:
        early.load(supply.config(weights, adapters))


def _serve(
    sock: socket.socket,
    model: str,
    supply: Supply,
    early: Spawned | None,
    front: FrontChoices,
    guard: Guard,
    data: DataChoices,
    folder: DataFolder | MachineError,
    image_hosts: tuple[str, ...],
) -> None:
    plan = supply.plan
    from openllm.fleet.port import address

    note(f"{plan.name}: {plan.engine} on {plan.device}, {plan.quantization}, context {plan.context}")

    # True from here on: the kernel accepts and queues connections while the server is imported.
    note(f"listening on {address(sock, 'http' if guard.tls is None else 'https')}")
    from openllm.api.server import serve

    options = front.options(guard, tuple(dict.fromkeys((plan.name, model))), plan, image_hosts)
    kept = data.options(folder, plan.concurrency)
    serve(sock, supply, options, kept=kept, early=early, tell=note)
