"""Several models for one server: their plans, their names, and the memory that they share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from openllm.cli.say import note
from openllm.errors import DoesNotFit, EngineMissing, OpenLLMError, UnsupportedOption, UsageError

if TYPE_CHECKING:
    from openllm.cli.options import PlanOptions
    from openllm.cli.settings import Settings
    from openllm.machine import Machine
    from openllm.plan import Plan
    from openllm.recipes.registry import Found, Registry

# Options that say something of one model, by their field.
_OF_ONE = {
    "quantize": "--quantize",
    "variant": "--variant",
    "adapters": "--adapter",
    "allow_adapter_loading": "--allow-adapter-loading",
    "max_adapters": "--max-adapters",
    "max_adapter_rank": "--max-adapter-rank",
}


class Planned(NamedTuple):
    """A model of several: ``names`` are what requests may call it, the first one is shown."""

    plan: Plan
    names: tuple[str, ...]


def check_options(options: PlanOptions) -> None:
    """Raise ``UnsupportedOption`` for an option that cannot be meant for several models."""
    for field, flag in _OF_ONE.items():
        if getattr(options, field):
            raise UnsupportedOption(
                f"{flag} is about one model, and several are to be served.",
                hint="Say it with the model's name, as in llama2:13b-chat or llama2@gptq; or start one model.",
                param=field,
            )


def budget(memory: int | None, machine: Machine) -> int:
    """The bytes that the models share: what was asked for, else all that is free, of GPUs where there are some."""
    if memory is not None:
        return memory
    return sum(gpu.free for gpu in machine.gpus) or machine.free_memory


def plan_named(names: Sequence[str], options: PlanOptions, settings: Settings, memory: int) -> list[Planned]:
    """A plan for each model that was named, in that order. Raises what ``resolve`` raises."""
    from openllm.cli.resolve import resolve

    made: dict[tuple[str, str, str], Planned] = {}
    for name in dict.fromkeys(names):
        plan = resolve(name, options.overrides(), settings, memory=memory)
        key = plan.name, plan.manifest.variant, repr(plan.manifest.source)  # two files may have one name
        others = {each for planned in made.values() for each in planned.names}
        known = made[key].names if key in made else (() if plan.name in others else (plan.name,))
        made[key] = Planned(plan, tuple(dict.fromkeys((*known, name))))
    return list(made.values())


def plan_all(options: PlanOptions, settings: Settings, memory: int) -> list[Planned]:
    """A plan for each model of the recipes whose weights are here; says which of them cannot be run.

    Raises ``UsageError`` if there is none.
    """
    from openllm.recipes.registry import Registry

    registry = Registry.open(settings.recipes)
    found = [
        planned
        for model in registry.models()
        for planned in _here(model, registry, options, settings, memory)
    ]
    if not found:
        raise UsageError(
            "There are no weights of any model here.", hint="Fetch some first: openllm pull smollm2"
        )
    return found


def check_memory(planned: Sequence[Planned], pinned: Sequence[str], memory: int) -> frozenset[str]:
    """The first names of the models that ``pinned`` names.

    Raises ``UsageError`` for a name that no model has, ``DoesNotFit`` for models that could never be loaded.
    """
    from openllm.memory import readable
    from openllm.plan import footprint

    for name in pinned:
        if not any(name in each.names for each in planned):
            raise UsageError(
                f"--pin {name}: no such model is to be served.", hint="Name one that is.", param="pin"
            )
    kept = [each for each in planned if set(pinned) & set(each.names)]
    held = sum(footprint(each.plan).total for each in kept)
    for each in planned:
        size = footprint(each.plan).total
        needed = held if each in kept else held + size
        if needed > memory:
            beside = (
                f" beside the pinned models' {readable(held - size if each in kept else held)}"
                if kept
                else ""
            )
            raise DoesNotFit(
                f"{each.names[0]} can never be loaded: it takes {readable(size)}{beside}, and the models share"
                f" {readable(memory)}.",
                hint="Raise --memory, pin fewer models, give less --context or --kv-cache, or leave it out.",
                param="memory",
            )
    return frozenset(each.names[0] for each in kept)


def _here(
    model: Found, registry: Registry, options: PlanOptions, settings: Settings, memory: int
) -> Iterator[Planned]:
    """The first variant of a model that is here and can be run, if there is one."""
    from openllm.cli.models import names_of, pulled
    from openllm.cli.resolve import resolve

    here = pulled(model, registry, settings)
    error: OpenLLMError | None = None
    for variant in model.model.variants:
        if variant.name not in here:
            continue
        try:
            plan = resolve(f"{model.name}@{variant.name}", options.overrides(), settings, memory=memory)
        except (UsageError, DoesNotFit, EngineMissing) as refused:
            error = error or refused
            continue
        names = [name for name in names_of(model) if _means(registry, name, model)]
        yield Planned(plan, tuple(dict.fromkeys((plan.name, *names))))
        return
    if error is not None:
        note(f"{model.name} is left out: {error.message}")


def _means(registry: Registry, name: str, model: Found) -> bool:
    """Is it this model that one gets by that name? Some are for a search only."""
    try:
        return registry.find(name).name == model.name
    except OpenLLMError:
        return False
