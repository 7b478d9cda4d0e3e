"""Replicas in a plan: each is planned for an equal part of the machine, as if there were nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from openllm.errors import UsageError
from openllm.machine import Gpu, Machine
from openllm.memory import readable
from openllm.plan.footprint import footprint
from openllm.plan.route import Route
from openllm.plan.values import Decision, Overrides, Plan

_ON_CPU_ONLY = ("openvino", "echo")


def check_gpus(overrides: Overrides, machine: Machine) -> None:
    """Raise ``UsageError`` if there are GPUs, and too few for each replica to have its own."""
    gpus, replicas, each = len(machine.gpus), overrides.replicas or 1, overrides.tensor_parallel or 1
    if not gpus or replicas == 1 or overrides.device == "cpu" or overrides.backend in _ON_CPU_ONLY:
        return
    if replicas * each > gpus:
        split = f" of {each} GPUs each" if each > 1 else ""
        fewer = f"Use --replicas {gpus // each} or less" if gpus >= each else "Use fewer of both"
        raise UsageError(
            f"--replicas {replicas}{split} need {replicas * each} GPUs; there are {gpus}.",
            hint=f"{fewer}, or --device cpu.",
            param="replicas",
        )


def check_cores(route: Route, replicas: int, machine: Machine) -> None:
    """Raise ``UsageError`` for more replicas than a CPU has cores. The echo engine computes nothing."""
    if route.device == "cpu" and route.engine != "echo" and replicas > machine.cores:
        raise UsageError(
            f"--replicas {replicas} are more than the {machine.cores} cores of this machine.",
            hint=f"Use --replicas {machine.cores} or less.",
            param="replicas",
        )


def part(machine: Machine, replicas: int) -> Machine:
    """What each replica has of a machine: cores, memory, and GPUs of its own, as good as the worst part's."""
    if replicas == 1:
        return machine
    return msgspec.structs.replace(
        machine,
        cores=max(1, machine.cores // replicas),
        memory=machine.memory // replicas,
        free_memory=machine.free_memory // replicas,
        gpus=tuple(_gpus_of_a_part(machine.gpus, replicas)),
    )


def replicated(plan: Plan, machine: Machine, replicas: int) -> Plan:
    """The plan of one replica, on its part of ``machine``, as that of so many."""
    if replicas == 1:
        return plan
    made = msgspec.structs.replace(plan, replicas=replicas, gpus=_sets(plan, machine, replicas))
    total = readable(footprint(made).total)
    return msgspec.structs.replace(
        made,
        decisions=(
            *made.decisions,
            Decision("replicas", str(replicas), f"asked for; each has what is said above and {_has(made, machine)}"),
            Decision("memory of all", total, f"{replicas} x weights, KV cache and overhead; none is taken as shared"),
        ),
    )  # fmt: skip


def _gpus_of_a_part(gpus: tuple[Gpu, ...], replicas: int) -> Iterator[Gpu]:
    each = len(gpus) // replicas
    if not each:  # it was checked that they are not used
        yield from gpus
    for place in range(each):
        alike = gpus[place::each][:replicas]
        memory, free = min(gpu.memory for gpu in alike), min(gpu.free for gpu in alike)
        yield msgspec.structs.replace(alike[0], memory=memory, free=free)


def _sets(plan: Plan, machine: Machine, replicas: int) -> tuple[tuple[int, ...], ...]:
    """The indices of each replica's GPUs."""
    if plan.device != "cuda":
        return ()
    each = len(machine.gpus) // replicas
    begins = range(0, replicas * each, each)
    return tuple(tuple(range(begin, begin + plan.tensor_parallel)) for begin in begins)


def _has(plan: Plan, machine: Machine) -> str:
    if plan.device == "cuda":
        count = plan.tensor_parallel
        return f"{count} of {len(machine.gpus)} GPUs for its own"
    return f"1/{plan.replicas} of {readable(machine.free_memory)} free and {machine.cores} cores"
