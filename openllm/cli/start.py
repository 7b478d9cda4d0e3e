"""``openllm start``: serve a model."""

from __future__ import annotations

import errno
import gc
import shutil
from functools import partial
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from openllm.cli.data import DataChoices, takes_data_choices
from openllm.cli.front import FrontChoices, takes_front_choices
from openllm.cli.operate import Begun, OperateChoices, takes_operate_choices
from openllm.cli.options import PlanOptions, parse_size, takes_plan_options
from openllm.errors import PortInUse, UnsupportedOption, UsageError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

    from openllm.api.offer import Offer
    from openllm.batches.storage import DataFolder
    from openllm.cli.front import Guard
    from openllm.cli.settings import Settings
    from openllm.cli.several import Planned
    from openllm.errors import MachineError
    from openllm.fleet.spawn import Spawned, Spawner
    from openllm.fleet.supply import Supply
    from openllm.plan import Plan


ModelNames = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MODEL...",
        help="A name of `openllm models`, org/name of the hub, a folder, or a .gguf file. Several are"
        " loaded as they are asked for.",
        show_default=False,
    ),
]


@takes_plan_options
@takes_front_choices
@takes_data_choices
@takes_operate_choices
def start(
    models: ModelNames = None,
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
    everything: Annotated[
        bool, typer.Option("--all", help="Serve all models of `openllm models` whose weights are here.")
    ] = False,
    memory: Annotated[
        int | None,
        typer.Option(
            parser=parse_size,
            metavar="SIZE",
            help="Most memory of all engines together; what is free by default.",
        ),
    ] = None,
    pin: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="Of several models, keep this one loaded; repeatable."),
    ] = None,
    template: Annotated[
        bool | None,
        typer.Option(
            "--template/--no-template",
            help="Keep the engine imported, to start runners fast; by default where they start on demand (Linux).",
            show_default=False,
        ),
    ] = None,
    *,
    options: PlanOptions,
    front: FrontChoices,
    data: DataChoices,
    operate: OperateChoices,
) -> None:
    """Serve one or more models behind an OpenAI-compatible API."""
    chosen = _Chosen(
        host, port, engine_option or [], allow_image_urls or [], template, options, front, data, operate
    )
    _check_warm(options, operate)
    names = models or []
    if everything or len(names) > 1:
        _start_several(chosen, _Several(names, everything, memory, tuple(pin or ())), dry_run=dry_run)
        return
    if not names:
        raise UsageError(
            "No model is named.", hint="Name one of `openllm models`, or give --all.", param="models"
        )
    if pin:
        raise UsageError("--pin is for several models: one stays loaded by itself.", hint="Leave it out.")
    if front.patience is not None:
        raise UsageError("--patience is for several models: one waits for no other.", hint="Leave it out.")
    if dry_run:
        _print_plan(names[0], options, memory)
    else:
        _start_one(chosen, names[0], memory)


class _Chosen(NamedTuple):
    """What does not depend on how many models there are."""

    host: str
    port: int
    engine_option: list[str]
    image_hosts: list[str]
    template: bool | None
    options: PlanOptions
    front: FrontChoices
    data: DataChoices
    operate: OperateChoices

    def begin(self, guard: Guard) -> Begun:
        """Listen, and keep the collector from looking at what is imported now: the server collects once, and goes on as
        usual."""
        begun = self.operate.begin(lambda: _listen(self.host, self.port), guard.scheme)
        gc.disable()
        return begun

    def forks(self, *, several: bool = False) -> bool:
        """Are runners forked from templates? Raises ``UnsupportedOption`` where they cannot be and have to."""
        from openllm.fleet.template import can_fork

        if self.template is None:
            return (several or self.front.on_demand) and can_fork()
        if self.template and not can_fork():
            raise UnsupportedOption(
                "This system has no template processes; they need Linux.",
                hint="Leave --template out.",
                param="template",
            )
        return self.template

    def folder(self, begun: Begun) -> Path | DataFolder | MachineError:
        return self.data.folder() if begun.bequest is None else self.data.later_folder()


def _start_one(chosen: _Chosen, model: str, memory: int | None) -> None:
    options, front = chosen.options, chosen.front
    engine_options = _pairs(chosen.engine_option)
    guard, forks = front.guard(chosen.host), chosen.forks()
    begun = chosen.begin(guard)
    spawner, likely = _spawner(forks, begun.tell), _likely_engine(options)
    early = None if front.start_asleep else spawner.spawn(likely, threads=options.threads)
    try:
        from openllm.cli.resolve import resolve

        settings = options.settings()
        plan = resolve(model, options.overrides(), settings, memory=memory)
        _check_images(plan, chosen.image_hosts)
        if early is None:
            spawner.prepare(plan.engine, threads=options.threads)
        elif forks and plan.engine != likely:
            # Later runners come from this one's template.
            early.discard()
            spawner.close()
            early = spawner.spawn(plan.engine, threads=options.threads)
        supply = _supply(plan, settings, engine_options)
        folder = chosen.folder(begun)
        if early is not None:
            _load_early(early, supply)
    except BaseException:
        if early is not None:
            early.discard()
        spawner.close()
        raise
    offer = _offer(supply, tuple(dict.fromkeys((plan.name, model))), front, early=early)
    _serve(begun, [offer], offer.names, chosen, settings, guard, folder, spawner, None)


class _Several(NamedTuple):
    """Which models, and what they may take."""

    names: list[str]
    everything: bool
    memory: int | None
    pinned: tuple[str, ...]

    def plan(self, options: PlanOptions, settings: Settings) -> tuple[list[Planned], int]:
        """The plans, and the bytes that they share. Raises what speaks against them."""
        from openllm.cli.resolve import this_machine
        from openllm.cli.several import budget, check_options, plan_all, plan_named

        if self.everything and self.names:
            raise UsageError("--all is given, and models too.", hint="Leave one of them out.")
        check_options(options)
        memory = budget(self.memory, this_machine(settings))
        if self.everything:
            return plan_all(options, settings, memory), memory
        return plan_named(self.names, options, settings, memory), memory


def _start_several(chosen: _Chosen, several: _Several, *, dry_run: bool) -> None:
    from openllm.cli.several import check_memory

    options, front = chosen.options, chosen.front
    settings = options.settings()
    if dry_run:
        planned, memory = several.plan(options, settings)
        check_memory(planned, several.pinned, memory)
        _print_plans([each.plan for each in planned])
        return
    engine_options = _pairs(chosen.engine_option)
    guard, forks = front.guard(chosen.host), chosen.forks(several=True)
    begun = chosen.begin(guard)
    planned, memory = several.plan(options, settings)
    pinned = check_memory(planned, several.pinned, memory)
    if not any(each.plan.sees for each in planned):
        _check_images(planned[0].plan, chosen.image_hosts)
    offers = [
        _offer(_supply(plan, settings, engine_options), names, front, pinned=names[0] in pinned)
        for plan, names in planned
    ]
    names = tuple(offer.names[0] for offer in offers)
    spawner = _spawner(forks, begun.tell)
    _serve(begun, offers, names, chosen, settings, guard, chosen.folder(begun), spawner, memory)


def _load_early(early: Spawned, supply: Supply) -> None:
    """Tell the runner what to load, if nothing must be fetched."""
    weights, adapters = supply.here(), supply.adapters_here()
    if weights is not None and adapters is not None:
        early.load(supply.config(weights, adapters))


def _check_warm(options: PlanOptions, operate: OperateChoices) -> None:
    if operate.warm is not None and (options.replicas or 1) > 1:
        raise UnsupportedOption(
            "--warm has one engine read its prompts, and there are to be several replicas.",
            hint="Leave --warm out, or --replicas.",
            param="warm",
        )


def _check_images(plan: Plan, hosts: list[str]) -> None:
    if hosts and not plan.sees:
        raise UnsupportedOption(
            f"{plan.name} on {plan.engine} takes text only; --allow-image-urls changes nothing.",
            hint="Leave it out, or serve a vision model with --backend vllm.",
            param="allow_image_urls",
        )


def _print_plan(model: str, options: PlanOptions, memory: int | None) -> None:
    from openllm.cli.resolve import resolve

    _print_plans([resolve(model, options.overrides(), options.settings(), memory=memory)])


def _print_plans(plans: list[Plan]) -> None:
    from openllm.cli.plan import print_plan

    for number, plan in enumerate(plans):
        if number:
            print()
        print_plan(plan)


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


def _spawner(forks: bool, tell: Callable[[str], None]) -> Spawner:
    if not forks:
        from openllm.fleet.spawn import PlainSpawner

        return PlainSpawner()
    from openllm.fleet.template import TemplateSpawner

    return TemplateSpawner(tell)


def _likely_engine(options: PlanOptions) -> str:
    """The engine which the plan will most likely choose: a runner imports it while this process plans and imports
    the HTTP server. If the plan chooses another, that one is imported when it is told."""
    on_vllm = options.adapters or options.allow_adapter_loading or shutil.which("nvidia-smi")
    return options.backend or ("vllm" if on_vllm else "openvino")


def _offer(
    supply: Supply,
    names: tuple[str, ...],
    front: FrontChoices,
    *,
    early: Spawned | None = None,
    pinned: bool = False,
) -> Offer:
    from openllm.api.offer import Offer

    return Offer(supply, names, front.longest_queue(supply.plan), early, pinned)


def _serve(
    begun: Begun,
    offers: list[Offer],
    names: tuple[str, ...],
    chosen: _Chosen,
    settings: Settings,
    guard: Guard,
    folder: Path | DataFolder | MachineError,
    spawner: Spawner,
    memory: int | None,
) -> None:
    from openllm.fleet.port import address

    for offer in offers:
        plan = offer.supply.plan
        begun.tell(
            f"{offer.names[0]}: {plan.engine} on {plan.device}, {plan.quantization}, context {plan.context}"
            + (f", {plan.replicas} replicas" if plan.replicas > 1 else "")
        )
    url = address(begun.sock, guard.scheme)

    # True from here on: the kernel accepts and queues connections while the server is imported.
    begun.tell(f"listening on {url}")
    from openllm.api.server import serve
    from openllm.cli.resolve import find_manifests

    find = partial(find_manifests, settings=settings._replace(offline=True))
    options = chosen.front.options(guard, tuple(chosen.image_hosts), memory)
    plans = [offer.supply.plan for offer in offers]
    kept = chosen.data.options(folder, max(plan.replicas * plan.concurrency for plan in plans))
    operation = begun.operation(names, url, chosen.front.drain_timeout)
    serve(begun.sock, offers, options, kept=kept, spawner=spawner, operation=operation, find=find)
