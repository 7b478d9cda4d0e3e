"""Makes the plan: every decision of a start, from values alone."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from openllm.errors import DoesNotFit, UnsupportedOption, UsageError
from openllm.machine import Machine
from openllm.memory import adapter_bytes, readable
from openllm.plan.adapters import (
    AdapterRoom,
    adapter_room,
    check_adapters,
    check_backend,
    check_task,
    wants_adapters,
)
from openllm.plan.advice import what_would_fit
from openllm.plan.limits import check_numbers
from openllm.plan.narrow import blocked_before, candidates
from openllm.plan.precision import decide_dtype, decide_kv_dtype, stored_kv_dtype
from openllm.plan.replicas import check_cores, check_gpus, part, replicated
from openllm.plan.route import Route
from openllm.plan.sizing import NoRoom, Sizes, size
from openllm.plan.values import Decision, Overrides, Plan
from openllm.weights.adapter import Adapter
from openllm.weights.manifest import Manifest

# Options that change nothing in an engine without weights.
_NOT_ECHO = (
    "quantize",
    "dtype",
    "kv_cache_bytes",
    "kv_cache_dtype",
    "memory_fraction",
    "tensor_parallel",
    "threads",
)
_MOST_THREADS_PER_CORE = 2


def make_plan(
    manifests: Sequence[Manifest],
    machine: Machine,
    overrides: Overrides,
    *,
    installed: frozenset[str],
    adapters: Sequence[Adapter] = (),
) -> Plan:
    """Decide how a model is run here. Pure: reads nothing, fetches nothing.

    ``manifests`` are the forms of one model's weights, at least one, best default first; ``installed`` are engines
    as ``machine.engines_installed`` names them; ``adapters`` what is known of ``overrides.adapters``. Every override
    is honoured or refused. Raises ``UsageError``, ``UnsupportedOption`` or ``InvalidAdapter`` (what was asked for
    cannot be), ``EngineMissing``, ``DoesNotFit`` or ``MachineError`` (not on this machine); each says what would work.
    """

    def attempt(host: Machine, wanted: Overrides, engines: frozenset[str]) -> Plan:
        return _made(manifests, host, wanted, engines, adapters)

    try:
        return attempt(machine, overrides, installed)
    except NoRoom as error:
        advice = what_would_fit(attempt, machine, overrides, installed)
        error.hint = " ".join(filter(None, (error.hint, *advice)))
        raise


def _made(
    manifests: Sequence[Manifest],
    machine: Machine,
    overrides: Overrides,
    installed: frozenset[str],
    adapters: Sequence[Adapter],
) -> Plan:
    check_numbers(overrides)
    check_gpus(overrides, machine)
    _check_threads(overrides, machine)
    replicas = overrides.replicas or 1
    whole, machine = machine, part(machine, replicas)
    _check_echo(overrides)
    check_backend(overrides)
    check_task(overrides, manifests[0])
    check_adapters(adapters, manifests[0])
    room = adapter_room(adapters, overrides)
    found = candidates(manifests, machine, overrides, installed)
    refusals: list[UsageError | DoesNotFit] = []
    for route in found:
        try:
            check_cores(route, replicas, whole)
            decided = decide(route, machine, overrides, room)
        except (UsageError, DoesNotFit) as error:
            refusals.append(error)
        else:
            plan = _complete(decided, route, manifests, machine, overrides, installed, refusals)
            return replicated(_with_adapters(plan, adapters, room, overrides), whole, replicas)
    raise _told_first(refusals)


def _told_first(refusals: Sequence[UsageError | DoesNotFit]) -> UsageError | DoesNotFit:
    """What was wrong with the best way; if that was memory, the way that came nearest to fitting."""
    near = [error for error in refusals if isinstance(error, NoRoom)]
    return min(near, key=lambda error: error.missing) if refusals[0] in near else refusals[0]


def _with_adapters(plan: Plan, adapters: Sequence[Adapter], room: AdapterRoom, overrides: Overrides) -> Plan:
    return msgspec.structs.replace(
        plan,
        adapters=tuple(adapters),
        adapter_loading=overrides.allow_adapter_loading,
        max_adapters=room.most,
        adapter_slots=room.slots,
        max_adapter_rank=room.rank,
        decisions=(*plan.decisions, *room.reasons, *_adapter_memory(plan, room)),
    )


def _adapter_memory(plan: Plan, room: AdapterRoom) -> tuple[Decision, ...]:
    if not room.most:
        return ()
    each = adapter_bytes(plan.manifest.shape, room.rank, plan.dtype)
    why = f"{readable(each)} for each at once: its rank x (inputs + outputs) of every matrix"
    return (Decision("adapter_memory", readable(each * room.slots), why),)


def decide(
    route: Route, machine: Machine, overrides: Overrides, room: AdapterRoom
) -> tuple[Sizes, Decision, Decision]:
    """Sizes, dtype and the KV cache's dtype of one way. Raises as ``make_plan`` does."""
    dtype = decide_dtype(route, machine, overrides)
    kv_dtype = decide_kv_dtype(route, machine, overrides)
    stored = stored_kv_dtype(route, dtype.value, kv_dtype.value)
    adapters = adapter_bytes(route.manifest.shape, room.rank, dtype.value) * room.slots
    sizes = size(route, machine, overrides, dtype=dtype.value, kv_dtype=stored, adapters=adapters)
    return sizes, dtype, kv_dtype


def _complete(
    decided: tuple[Sizes, Decision, Decision],
    route: Route,
    manifests: Sequence[Manifest],
    machine: Machine,
    overrides: Overrides,
    installed: frozenset[str],
    refusals: Sequence[UsageError | DoesNotFit],
) -> Plan:
    sizes, dtype, kv_dtype = decided
    manifest = route.manifest
    threads = overrides.threads or machine.cores
    eager = route.device == "cpu"
    skipped = refusals[0] if refusals else None
    passed_over = skipped or blocked_before(route, manifests, machine, installed)
    decisions = (
        Decision("variant", manifest.variant, _why_variant(route, overrides, manifests, skipped)),
        Decision("engine", route.engine, _why_engine(route, overrides, passed_over)),
        Decision("device", route.device, _why_device(route, machine, overrides)),
        Decision("quantization", route.quantization, _why_quantization(route, overrides)),
        dtype,
        kv_dtype,
        *sizes.reasons,
        Decision("threads", str(threads), _why_threads(overrides)),
        Decision("eager", "yes" if eager else "no", _why_eager(route)),
        *_sight(route),
    )
    return Plan(
        name=manifest.name,
        manifest=manifest,
        engine=route.engine,
        device=route.device,
        quantization=route.quantization,
        dtype=dtype.value,
        kv_cache_dtype=kv_dtype.value,
        context=sizes.context,
        concurrency=sizes.concurrency,
        threads=threads,
        kv_cache_bytes=sizes.kv_cache_bytes,
        weight_bytes=sizes.weight_bytes,
        tensor_parallel=sizes.tensor_parallel,
        memory_fraction=sizes.memory_fraction,
        eager=eager,
        decisions=decisions,
        sees=sees(route),
        arithmetic=sizes.terms,
    )


def sees(route: Route) -> bool:
    """Can this way take images?"""
    return route.manifest.sees and route.engine == "vllm" and not route.encodes


def _sight(route: Route) -> tuple[Decision, ...]:
    if not route.manifest.sees:
        return ()
    able = sees(route)
    part = "texts are encoded only" if route.encodes else f"{route.engine} runs its text part only"
    why = "the model sees" if able else part
    return (Decision("images", "yes" if able else "no", why),)


def _check_threads(overrides: Overrides, machine: Machine) -> None:
    replicas = overrides.replicas or 1
    most = max(1, machine.cores * _MOST_THREADS_PER_CORE // replicas)
    if overrides.threads is not None and overrides.threads > most:
        each = f" for each of {replicas} replicas" if replicas > 1 else ""
        raise UsageError(
            f"--threads {overrides.threads}{each} is more than this machine's {machine.cores} cores can use.",
            hint=f"Use --threads {max(1, machine.cores // replicas)}, or leave it out.",
            param="threads",
        )


def _check_echo(overrides: Overrides) -> None:
    if overrides.backend != "echo":
        return
    for field in _NOT_ECHO:
        if getattr(overrides, field) not in (None, "auto"):
            option = f"--{'kv-cache' if field == 'kv_cache_bytes' else field.replace('_', '-')}"
            raise UnsupportedOption(
                f"The echo backend has nothing that {option} could change.",
                hint=f"Leave {option} out.",
                param=field,
            )


def _why_variant(
    route: Route, overrides: Overrides, manifests: Sequence[Manifest], skipped: UsageError | DoesNotFit | None
) -> str:
    if overrides.variant is not None:
        return "asked for"
    if len(manifests) == 1:
        return "the only one"
    if overrides.quantize is not None:
        return f"holds {overrides.quantize}"
    if skipped is not None:
        return "the first that fits"
    first = route.manifest is manifests[0]
    return "the model's default" if first else f"the first that {route.engine} runs on this device"


def _why_engine(route: Route, overrides: Overrides, passed_over: Exception | None) -> str:
    if overrides.backend is not None:
        return "asked for"
    if wants_adapters(overrides) and route.device == "cpu":
        return "the one that serves LoRA adapters"
    if route.device == "cuda":
        return "the model fits this GPU"
    why = "the fastest on a CPU" if route.engine == "openvino" else "OpenVINO cannot open these weights"
    if route.engine == "transformers":
        why = "no other engine here runs this"
    if passed_over is None or overrides.device is not None:
        return why
    return f"{why}; passed over: {_told(passed_over)}"


def _told(error: Exception) -> str:
    hint = getattr(error, "hint", None)
    told = str(error).rstrip(".")
    return f"{told} ({hint})" if hint else told


def _why_device(route: Route, machine: Machine, overrides: Overrides) -> str:
    if overrides.device is not None:
        return "asked for"
    if route.device == "cuda":
        return machine.gpus[0].name
    return "no GPU was found" if not machine.gpus else "this engine runs on the CPU"


def _why_quantization(route: Route, overrides: Overrides) -> str:
    if route.engine == "echo":
        return "no weights are opened"
    stored = route.manifest.quantization
    if route.how == "at each start":
        return "asked for; the floats are rounded at each start"
    if route.converts:
        return f"{stored} weights dequantized exactly, {_kept(route)}"
    if overrides.quantize is not None:
        return "asked for"
    return "as the weights are stored"


def _kept(route: Route) -> str:
    if route.quantization == "none":
        return "kept as floats"
    rounded = route.engine == "transformers"
    return f"rounded to {route.quantization} at each start" if rounded else f"kept as {route.quantization}"


def _why_threads(overrides: Overrides) -> str:
    if overrides.threads is not None:
        return "asked for"
    return (
        "physical cores, divided between the replicas" if (overrides.replicas or 1) > 1 else "physical cores"
    )


def _why_eager(route: Route) -> str:
    if route.engine == "vllm":
        return (
            "compiled graphs are faster on GPUs" if route.device == "cuda" else "compiled mode errs on CPUs"
        )
    return "the engine compiles on its own"
