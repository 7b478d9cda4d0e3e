"""Options that several commands share, each declared once."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, get_type_hints

import typer

from openllm.errors import UsageError

if TYPE_CHECKING:
    from openllm.cli.settings import Settings
    from openllm.plan import Overrides

ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A name of `openllm models`, org/name of the hub, a folder, or a .gguf file.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_UNITS = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes of "2GiB", "512MB", "1.5G" (1024 with an i or without a B, 1000 as in MB) or "1048576".

    Raises ``UsageError`` for anything else.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is not a size.", hint="Write it like 2GiB, 512MB or 1048576.")
    number, unit, binary = match.groups()
    decimal = unit and not binary and text.strip().lower().endswith("b")
    return int(float(number) * (1000 if decimal else 1024) ** _UNITS[unit.lower()])


def parse_duration(text: str) -> float:
    """Seconds of "30s", "5m" or "1h"; infinite for "never" and "-1". Raises ``UsageError`` for anything else."""
    from openllm.fleet.duration import parse_duration as parse

    return parse(text)


class PlanOptions(NamedTuple):
    """What a caller may insist on. A field's annotation is its option; None leaves the choice to the plan."""

    backend: Annotated[str | None, typer.Option(help="Engine: vllm, openvino, transformers or echo.")] = None
    quantize: Annotated[
        str | None, typer.Option(help="Quantization of the weights, e.g. int8, awq, gptq, fp8, none.")
    ] = None
    variant: Annotated[str | None, typer.Option(help="Variant of the recipe.")] = None
    dtype: Annotated[str | None, typer.Option(help="bfloat16, float16, float32 or auto.")] = None
    context: Annotated[int | None, typer.Option(help="Longest prompt and answer, in tokens.")] = None
    concurrency: Annotated[int | None, typer.Option(help="Most sequences at once, of each engine.")] = None
    threads: Annotated[int | None, typer.Option(help="Threads of each engine.")] = None
    kv_cache: Annotated[
        int | None,
        typer.Option(parser=parse_size, metavar="SIZE", help="KV cache of each engine, e.g. 2GiB."),
    ] = None
    kv_cache_dtype: Annotated[str | None, typer.Option(help="Numbers of the KV cache, e.g. u8, fp8.")] = None
    tensor_parallel: Annotated[int | None, typer.Option(help="GPUs to split the model over.")] = None
    replicas: Annotated[
        int | None,
        typer.Option(
            help="Engines that run the model side by side, each with its part of the memory, cores and GPUs."
        ),
    ] = None
    memory_fraction: Annotated[
        float | None, typer.Option(help="Most of a device's memory to take, e.g. 0.9.")
    ] = None
    device: Annotated[str | None, typer.Option(help="cpu or cuda.")] = None
    adapters: Annotated[
        list[str] | None,
        typer.Option(
            "--adapter",
            metavar="NAME=PATH",
            help="A LoRA adapter: a folder, or org/name of the hub; repeatable.",
        ),
    ] = None
    allow_adapter_loading: Annotated[
        bool,
        typer.Option(
            "--allow-adapter-loading", help="Let clients load adapters from folders of this machine."
        ),
    ] = False
    max_adapters: Annotated[int | None, typer.Option(help="Most LoRA adapters at once.")] = None
    max_adapter_rank: Annotated[int | None, typer.Option(help="Largest rank of a LoRA adapter.")] = None
    offline: Annotated[bool, typer.Option("--offline", help="Open no connection: use what is here.")] = False
    cache_dir: Annotated[Path | None, typer.Option(help="Folder of fetched weights.")] = None

    def overrides(self) -> Overrides:
        """These options as the plan takes them."""
        from openllm.plan import Overrides
        from openllm.weights.adapter import parse_adapter

        chosen = self._asdict()
        del chosen["offline"], chosen["cache_dir"]
        adapters = tuple(parse_adapter(text) for text in chosen.pop("adapters") or ())
        return Overrides(kv_cache_bytes=chosen.pop("kv_cache"), adapters=adapters, **chosen)

    def settings(self) -> Settings:
        """The environment's settings, with --offline and --cache-dir over them."""
        from openllm.cli.settings import read_settings

        return read_settings(cache=self.cache_dir, offline=self.offline)


Command = Callable[..., None]


def takes(group: Any, name: str) -> Callable[[Command], Command]:
    """Give a command all options of ``group``, a NamedTuple as ``PlanOptions``: it is called with one as the keyword
    argument ``name``.

    The command's other parameters must have annotations that its module can evaluate.
    """

    def decorate(command: Command) -> Command:
        parameters = _parameters(command, group, name)

        def run(*args: Any, **kwargs: Any) -> None:
            kwargs[name] = group(**{field: kwargs.pop(field) for field in group._fields})
            command(*args, **kwargs)

        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return run

    return decorate


def _parameters(command: Command, group: Any, name: str) -> list[inspect.Parameter]:
    """The command's own parameters but ``name``, then the group's."""
    own = inspect.signature(command).parameters
    hints = get_type_hints(command, include_extras=True)
    shared = get_type_hints(group, include_extras=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        parameter.replace(annotation=hints[own_name])
        for own_name, parameter in own.items()
        if own_name != name
    ]
    parameters += [
        inspect.Parameter(field, keyword, default=group._field_defaults[field], annotation=shared[field])
        for field in group._fields
    ]
    return parameters


takes_plan_options = takes(PlanOptions, "options")
