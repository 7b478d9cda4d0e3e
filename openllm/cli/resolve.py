"""From what was typed to a plan: registry, manifests, machine, plan. The way of `plan`, `pull` and `start`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openllm.errors import UnknownModel

if TYPE_CHECKING:
    from openllm.cli.settings import Settings
    from openllm.machine import Machine
    from openllm.plan import Overrides, Plan
    from openllm.weights.adapter import Adapter
    from openllm.weights.manifest import Manifest


def resolve(
    model: str,
    overrides: Overrides,
    settings: Settings,
    *,
    machine: Machine | None = None,
    memory: int | None = None,
    fresh: bool = False,
) -> Plan:
    """Plan ``model`` for this machine, or for ``machine`` as if every engine were installed there.

    Quick for recipes and local files; a hub id without a recipe asks the hub for its headers, unless
    ``settings.offline``; ``memory`` are the most bytes that it may take; ``fresh`` asks the hub for a
    newer commit of what is here.

    Raises what the registry, ``weights.inspect``, ``weights.adapter`` and ``make_plan`` raise.
    """
    from openllm.machine import EVERYTHING, engines_installed
    from openllm.plan import check_backend, make_plan

    check_backend(overrides)
    adapters = _adapters(overrides, settings)
    if machine is None:
        found = find_manifests(model, settings, fresh=fresh, quantize=overrides.quantize)
        here = limited(this_machine(settings), memory, overrides.replicas or 1)
        return make_plan(found, here, overrides, installed=engines_installed(), adapters=adapters)
    found = find_published(model, settings, fresh=fresh)
    return make_plan(found, machine, overrides, installed=EVERYTHING, adapters=adapters)


def other_machine(text: str | None) -> Machine | None:
    """The machine of --machine; None for this one. Raises ``UsageError``."""
    if text is None or text == "this":
        return None
    from openllm.machine import find

    return find(text)


def find_manifests(
    model: str, settings: Settings, *, fresh: bool = False, quantize: str | None = None
) -> list[Manifest]:
    """Every form of the model's weights that is known, best default first: those that are published, then what
    `openllm quantize` made here. What was made in the form of ``quantize`` comes right after the default."""
    from openllm.recipes.reference import HubId, RecipeName, parse_reference
    from openllm.weights.made import made_manifests

    match parse_reference(model):
        case HubId(revision=str()):
            return find_published(model, settings, fresh=fresh)
        case RecipeName(name=name) if "@" in name:
            return _variant(name, settings, fresh)
    found = find_published(model, settings, fresh=fresh)
    made = made_manifests(settings.cache, found)
    asked = [each for each in made if quantize is not None and each.quantization == quantize.lower()]
    return [*found[:1], *asked, *found[1:], *(each for each in made if each not in asked)]


def _variant(name: str, settings: Settings, fresh: bool) -> list[Manifest]:
    """The one variant that ``family:model@variant`` names: of its recipe, or one that only this machine has."""
    from openllm.weights.made import made_manifests

    try:
        return find_published(name, settings, fresh=fresh)
    except UnknownModel:
        base, _, variant = name.partition("@")
        made = made_manifests(settings.cache, find_published(base, settings, fresh=fresh))
        found = [each for each in made if each.variant == variant.lower()]
        if not found:
            raise
        return found


def find_published(model: str, settings: Settings, *, fresh: bool = False) -> list[Manifest]:
    """As ``find_manifests``, without what was made here."""
    from openllm.recipes.registry import Registry
    from openllm.weights.inspect import manifests

    registry = Registry.open(settings.recipes)
    return list(manifests(model, registry, hub=settings.hub, offline=settings.offline, fresh=fresh))


def _adapters(overrides: Overrides, settings: Settings) -> list[Adapter]:
    """What the files of each LoRA adapter tell."""
    from openllm.weights.adapter import inspect_adapter

    return [inspect_adapter(ref, hub=settings.hub, offline=settings.offline) for ref in overrides.adapters]


def limited(machine: Machine, memory: int | None, replicas: int = 1) -> Machine:
    """The machine with no more than so many bytes free, on GPUs for so many replicas together."""
    import msgspec

    if memory is None:
        return machine
    gpus = tuple(msgspec.structs.replace(gpu, free=min(gpu.free, memory // replicas)) for gpu in machine.gpus)
    return msgspec.structs.replace(machine, free_memory=min(machine.free_memory, memory), gpus=gpus)


def this_machine(settings: Settings) -> Machine:
    """What this process may use now."""
    from openllm.machine import probe

    return probe(settings.cache, visible_gpus=settings.visible_gpus)
