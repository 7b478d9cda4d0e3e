"""What would fit, where a model does not: another variant on this machine, or the smallest machine that holds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from openllm.errors import OpenLLMError
from openllm.machine import EVERYTHING, Machine, named, sizes
from openllm.plan.values import Overrides, Plan

Attempt = Callable[[Machine, Overrides, frozenset[str]], Plan]


def what_would_fit(
    attempt: Attempt, machine: Machine, overrides: Overrides, installed: frozenset[str]
) -> Iterator[str]:
    """Sentences for a hint. ``attempt`` makes the plan or raises; it must not ask for advice itself."""
    yield from _fewer_replicas(attempt, machine, overrides, installed)
    if overrides.variant is not None or overrides.quantize is not None:
        freed = msgspec.structs.replace(overrides, variant=None, quantize=None)
        plan = _made(attempt, machine, freed, installed)
        if plan is not None:
            asked = "--quantize" if overrides.variant is None else "--variant"
            yield f"Without {asked}, {plan.manifest.variant} would fit."
    for name in sizes():
        plan = _made(attempt, named(name), overrides, EVERYTHING)
        if plan is not None and plan.device == "cuda":
            yield f"It would fit {name} (openllm plan --machine {name})."
            return


def _fewer_replicas(
    attempt: Attempt, machine: Machine, overrides: Overrides, installed: frozenset[str]
) -> Iterator[str]:
    if overrides.replicas is None or overrides.replicas == 1:
        return
    yield f"This is for each of {overrides.replicas} replicas."
    for fewer in range(overrides.replicas - 1, 0, -1):
        if _made(attempt, machine, msgspec.structs.replace(overrides, replicas=fewer), installed):
            yield f"--replicas {fewer} would fit."
            return


def _made(attempt: Attempt, machine: Machine, overrides: Overrides, installed: frozenset[str]) -> Plan | None:
    try:
        return attempt(machine, overrides, installed)
    except OpenLLMError:
        return None
