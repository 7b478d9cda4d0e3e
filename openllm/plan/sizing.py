"""Context, concurrency, KV cache and devices: what fits in the memory that is free."""

from __future__ import annotations

import math

import msgspec

from openllm.errors import DoesNotFit, UnsupportedOption, UsageError
from openllm.machine import Machine
from openllm.memory import (
    Footprint,
    Term,
    fit,
    kv_bytes,
    kv_share,
    kv_term,
    longest_context,
    overhead_terms,
    readable,
)
from openllm.plan.copies import converted_floats, mapped_file
from openllm.plan.precision import computing_dtype
from openllm.plan.route import Route
from openllm.plan.running_weights import running_weights
from openllm.plan.values import Decision, Overrides

_FRACTION = 0.9
_CONCURRENCY = {"cpu": 64, "cuda": 256}
_TEXTS_AT_ONCE = 256
# A model that leaves room for a shorter context than this does not fit, unless a shorter one is asked for.
_LEAST_CONTEXT = 2048
# As long as many chats are: what a sequence must find in the cache to count as one more.
_SHORT_TOKENS = 512
# Tokens of cache that a sequence is given on a CPU when there is room: chats are mostly shorter.
_SHARE_TOKENS = 1024
# Part of a CPU's memory, after the weights, that the KV cache takes unasked.
_CPU_KV_PART = 0.5


class NoRoom(DoesNotFit):
    """A route that needs ``missing`` bytes more than there are, by these ``terms``."""

    missing = 0
    terms: tuple[Term, ...] = ()


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """What a route takes here. Bytes are totals over all devices; ``reasons`` one decision a field."""

    weight_bytes: int
    kv_cache_bytes: int
    context: int
    concurrency: int
    tensor_parallel: int
    memory_fraction: float
    reasons: tuple[Decision, ...]
    terms: tuple[Term, ...] = ()


class _Room(msgspec.Struct, frozen=True, kw_only=True):
    """Memory of one way to spread a route over devices.

    ``kv`` is what is left for the KV cache of all together, negative if the weights alone do not fit;
    ``usable`` and ``needed`` are per device, without KV cache.
    """

    devices: int
    fraction: float
    usable: int
    weights: int
    needed: int
    kv: int
    terms: tuple[Term, ...]
    mapped: tuple[Term, ...] = ()


def size(
    route: Route, machine: Machine, overrides: Overrides, *, dtype: str, kv_dtype: str, adapters: int = 0
) -> Sizes:
    """Fit ``route`` into ``machine``, beside ``adapters`` bytes of LoRA matrices on each device.

    Raises ``DoesNotFit`` with what is missing and what would fit, and ``UsageError`` for a context beyond the model's
    or a number of GPUs that is not there.
    """
    shape, limit = route.manifest.shape, route.manifest.context
    _check_context(route, overrides.context)
    if route.engine == "echo":
        return _echo(route, overrides)
    counts = _device_counts(route, machine, overrides.tensor_parallel)
    rooms = [_room(route, machine, overrides, dtype, count, adapters) for count in counts]
    if not route.caches:
        return _encoder(route, rooms, overrides, dtype)
    vllm = route.engine == "vllm"
    least = kv_bytes(shape, overrides.context or min(limit, _LEAST_CONTEXT), kv_dtype, vllm=vllm)
    holding = [room for room in rooms if room.kv >= max(least, overrides.kv_cache_bytes or 0)]
    whole = kv_bytes(shape, overrides.context or limit, kv_dtype, vllm=vllm)
    room = next((room for room in holding if room.kv >= whole), holding[-1] if holding else None)
    if room is None:
        raise _does_not_fit(route, rooms[-1], overrides, kv_dtype)
    context, kv = _context_and_cache(route, room, overrides, kv_dtype)
    concurrency = overrides.concurrency or _width(route, kv[0], context[0], kv_dtype)
    return Sizes(
        weight_bytes=room.weights,
        kv_cache_bytes=kv[0],
        context=context[0],
        concurrency=concurrency,
        tensor_parallel=room.devices,
        memory_fraction=room.fraction,
        reasons=(
            Decision("context", str(context[0]), context[1]),
            Decision("concurrency", str(concurrency), _why_width(route, overrides, concurrency)),
            Decision("kv_cache", readable(kv[0]), kv[1]),
            Decision("weights", readable(room.weights), _why_weights(route, dtype)),
            Decision("tensor_parallel", str(room.devices), _why_devices(route, overrides, room)),
            Decision("memory_fraction", f"{room.fraction:g}", _why_fraction(overrides, room)),
        ),
        terms=(*room.terms, *_cache_terms(route, room, kv_dtype, context[0], kv[0])),
    )


def _cache_terms(route: Route, room: _Room, kv_dtype: str, context: int, cache: int) -> tuple[Term, ...]:
    """The cache and what it is reckoned from; ``cache`` is that of all devices together."""
    shape, vllm = route.manifest.shape, route.engine == "vllm"
    token = kv_term(shape, kv_dtype)
    whole = kv_bytes(shape, context, kv_dtype, vllm=vllm)
    text = f"{context:,} tokens, in blocks of 128{' and one more' if vllm else ''}, x {token.bytes:,} B"
    if vllm and shape.sliding_window is not None:
        windowed = shape.layers if shape.windowed_layers is None else shape.windowed_layers
        text = f"{text}; {windowed} layers keep {shape.sliding_window:,} tokens and a block"
    share = kv_share(shape, room.devices)
    each = (
        f"{cache:,} B x {share:g}, its part of the KV heads"
        if share < 1
        else f"room for {cache // max(1, whole)} of these"
    )
    return (
        token,
        Term("KV cache of a context", text, whole),
        Term(f"KV cache{_on_each(room)}", each, int(cache * share)),
        Term("in all", f"of {readable(room.usable)} usable", room.needed + int(cache * share)),
        *room.mapped,
    )


def _on_each(room: _Room) -> str:
    return f" on each of {room.devices} GPUs" if room.devices > 1 else ""


def _echo(route: Route, overrides: Overrides) -> Sizes:
    context = overrides.context or route.manifest.context
    width = overrides.concurrency or _CONCURRENCY["cpu"]
    return Sizes(
        weight_bytes=0, kv_cache_bytes=0, context=context, concurrency=width, tensor_parallel=1,
        memory_fraction=_FRACTION,
        reasons=(
            Decision("context", str(context), "asked for" if overrides.context else "as the model's"),
            Decision("concurrency", str(width), "asked for" if overrides.concurrency else "default"),
        ),
    )  # fmt: skip


def _encoder(route: Route, rooms: list[_Room], overrides: Overrides, dtype: str) -> Sizes:
    """A model without a cache: its weights, and one batch's activations."""
    if overrides.kv_cache_bytes is not None:
        raise UnsupportedOption(
            f"{route.manifest.name} keeps no KV cache.", hint="Leave --kv-cache out.", param="kv_cache_bytes"
        )
    room = next((room for room in rooms if room.kv >= 0), None)
    if room is None:
        raise _does_not_fit(route, rooms[-1], overrides, dtype)
    context = overrides.context or route.manifest.context
    width = overrides.concurrency or _TEXTS_AT_ONCE
    return Sizes(
        weight_bytes=room.weights,
        kv_cache_bytes=0,
        context=context,
        concurrency=width,
        tensor_parallel=room.devices,
        memory_fraction=room.fraction,
        reasons=(
            Decision("context", str(context), "asked for" if overrides.context else "as the model's"),
            Decision("concurrency", str(width), "asked for" if overrides.concurrency else "texts in a batch"),
            Decision("kv_cache", readable(0), "the model keeps no cache"),
            Decision("weights", readable(room.weights), _why_weights(route, dtype)),
            Decision("tensor_parallel", str(room.devices), _why_devices(route, overrides, room)),
            Decision("memory_fraction", f"{room.fraction:g}", _why_fraction(overrides, room)),
        ),
        terms=(*room.terms, Term("in all", f"of {readable(room.usable)} usable", room.needed)),
    )


def _check_context(route: Route, context: int | None) -> None:
    limit = route.manifest.context
    if context is not None and context > limit:
        raise UsageError(
            f"{route.manifest.name} has a context of {limit} tokens; --context {context} is longer.",
            hint=f"Use --context {limit} or less.",
            param="context",
        )


def _device_counts(route: Route, machine: Machine, asked: int | None) -> list[int]:
    """Numbers of GPUs to try, fewest first: heads must divide evenly among them."""
    heads, gpus = route.manifest.shape.heads, len(machine.gpus)
    if route.device != "cuda":
        if asked not in (None, 1):
            raise UnsupportedOption(
                f"--tensor-parallel {asked} needs GPUs; {route.engine} runs on the CPU here.",
                hint="Leave --tensor-parallel out.",
                param="tensor_parallel",
            )
        return [1]
    able = [count for count in (1, 2, 4, 8, 16) if count <= gpus and heads % count == 0]
    if asked is None:
        return able
    if asked > gpus or heads % asked:
        why = f"there are {gpus} GPUs" if asked > gpus else f"{heads} heads cannot be split in {asked}"
        raise UnsupportedOption(
            f"--tensor-parallel {asked} cannot be honoured: {why}.",
            hint=f"Choose {', '.join(map(str, able))}.",
            param="tensor_parallel",
        )
    return [asked]


def _room(
    route: Route, machine: Machine, overrides: Overrides, dtype: str, devices: int, adapters: int
) -> _Room:
    shape = route.manifest.shape
    if route.device == "cuda":
        memory = min(gpu.memory for gpu in machine.gpus[:devices])
        free = min(gpu.free for gpu in machine.gpus[:devices])
    else:
        memory, free = machine.memory, machine.free_memory
    fraction = overrides.memory_fraction or min(_FRACTION, math.floor(100 * free / max(1, memory)) / 100)
    if route.device == "cuda" and overrides.memory_fraction and fraction * memory > free:
        raise DoesNotFit(
            f"--memory-fraction {fraction:g} is {readable(int(fraction * memory))} of GPU memory, "
            f"and {readable(free)} are free.",
            hint=f"Use --memory-fraction {math.floor(100 * free / memory) / 100:g} or less, or free the GPU.",
            param="memory_fraction",
        )
    usable = min(free, int(fraction * memory))
    weights = running_weights(route, dtype if route.engine != "openvino" else computing_dtype(dtype, machine))
    width = overrides.concurrency or _CONCURRENCY[route.device]
    eager = route.device == "cpu" or route.engine != "vllm"
    overhead = overhead_terms(
        shape, route.engine, route.device, 0 if route.encodes else width, devices=devices, eager=eager
    )
    overhead += converted_floats(route, dtype, weights.bytes)
    if adapters:
        overhead += (Term("adapters", "places for LoRA matrices", adapters),)
    fits = fit(Footprint(weights.bytes // devices, 0, sum(term.bytes for term in overhead)), usable)
    left = fits.free - fits.needed
    split = (Term("weights on each", f"{weights.bytes:,} B / {devices} GPUs", weights.bytes // devices),)
    return _Room(
        devices=devices, fraction=fraction, usable=usable, weights=weights.bytes, needed=fits.needed,
        kv=int(left / kv_share(shape, devices)) if left > 0 else left,
        terms=(
            Term("usable", f"the less of {readable(free)} free and {fraction:g} x {readable(memory)}", usable),
            weights, *(split if devices > 1 else ()), *overhead,
            Term("left for the KV cache", f"{usable:,} B - {fits.needed:,} B", left),
        ),
        mapped=mapped_file(route, dtype, weights.bytes, rounded=route.how != "as stored"),
    )  # fmt: skip


def _context_and_cache(
    route: Route, room: _Room, overrides: Overrides, kv_dtype: str
) -> tuple[tuple[int, str], tuple[int, str]]:
    """Context and KV cache bytes, each with its reason; at least one whole context always fits the cache."""
    shape, limit, vllm = route.manifest.shape, route.manifest.context, route.engine == "vllm"

    def need(tokens: int) -> int:
        return kv_bytes(shape, tokens, kv_dtype, vllm=vllm)

    on_cpu = route.device == "cpu"
    unasked = room.kv
    if on_cpu:
        unasked = min(room.kv, max(int(room.kv * _CPU_KV_PART), need(min(limit, _LEAST_CONTEXT))))
    budget = overrides.kv_cache_bytes or unasked
    if overrides.context:
        context, why = overrides.context, "asked for"
        budget = max(budget, need(context)) if overrides.kv_cache_bytes is None else budget
    else:
        context = longest_context(shape, budget, kv_dtype, vllm=vllm, limit=limit)
        why = "all that the model was made for" if context == limit else "what its share of memory can hold"
    if context == 0 or need(context) > budget:
        raise UsageError(
            f"A KV cache of {readable(budget)} cannot hold {context or _LEAST_CONTEXT} tokens.",
            hint=f"Use --kv-cache {math.ceil(need(context or _LEAST_CONTEXT) / 2**20)}MiB or more.",
            param="kv_cache_bytes",
        )
    if overrides.kv_cache_bytes:
        return (context, why), (overrides.kv_cache_bytes, "asked for")
    if not on_cpu:
        return (context, why), (budget, "what weights and activations leave of the GPU's share")
    share = min(context, max(_SHARE_TOKENS, context // 8))
    width = overrides.concurrency or _CONCURRENCY[route.device]
    wanted = max(need(context), width * (need(share) - need(0)) + need(0))
    if wanted <= budget:
        return (context, why), (wanted, f"{width} sequences of {share} tokens, or one of {context}")
    return (context, why), (budget, "half of the memory that is free after the weights")


def _width(route: Route, kv: int, context: int, kv_dtype: str) -> int:
    """Sequences at once: the default, or as many short ones as the cache holds."""
    most = _CONCURRENCY[route.device]
    short = min(context, _SHORT_TOKENS)
    spare = kv_bytes(route.manifest.shape, 0, kv_dtype, vllm=route.engine == "vllm")
    each = kv_bytes(route.manifest.shape, short, kv_dtype, vllm=route.engine == "vllm") - spare
    return max(1, min(most, (kv - spare) // each))


def _why_width(route: Route, overrides: Overrides, width: int) -> str:
    if overrides.concurrency is not None:
        return "asked for"
    if width < _CONCURRENCY[route.device]:
        return f"sequences of {_SHORT_TOKENS} tokens that the KV cache holds"
    return "default on a GPU" if route.device == "cuda" else "default on a CPU: wider batches gain little"


def _why_weights(route: Route, dtype: str) -> str:
    form = route.quantization if route.quantization != "none" else dtype
    if route.converts and route.engine != "transformers":
        return f"{route.manifest.quantization} rewritten once as {form}"
    if route.how != "as stored":
        return f"floats rounded to {form} at each start"
    return f"as stored, {form}" if route.manifest.bytes else f"estimated for {form}"


def _why_devices(route: Route, overrides: Overrides, room: _Room) -> str:
    if overrides.tensor_parallel is not None:
        return "asked for"
    if route.device != "cuda":
        return "one CPU"
    return "fits one GPU" if room.devices == 1 else "fewest GPUs that hold the weights and the context"


def _why_fraction(overrides: Overrides, room: _Room) -> str:
    if overrides.memory_fraction is not None:
        return "asked for"
    return "default" if room.fraction == _FRACTION else "less than the default is free"


def _does_not_fit(route: Route, room: _Room, overrides: Overrides, kv_dtype: str) -> NoRoom:
    """Say by how much, and the nearest thing that would fit."""
    manifest, vllm = route.manifest, route.engine == "vllm"
    where = "GPU memory" if route.device == "cuda" else "memory"
    tokens = overrides.context or min(manifest.context, _LEAST_CONTEXT)
    cache = max(kv_bytes(manifest.shape, tokens, kv_dtype, vllm=vllm), overrides.kv_cache_bytes or 0)
    cache = cache if route.caches else 0
    cache = int(cache * kv_share(manifest.shape, room.devices))
    needed = fit(Footprint(room.needed, cache, 0), room.usable)
    each = f" on each of {room.devices} GPUs" if room.devices > 1 else ""
    hint = "Free memory, raise --memory-fraction, or choose a smaller model or variant."
    if room.kv > 0 and route.caches:
        longest = longest_context(manifest.shape, room.kv, kv_dtype, vllm=vllm, limit=manifest.context)
        if overrides.kv_cache_bytes and overrides.kv_cache_bytes > room.kv:
            hint = f"Use --kv-cache {room.kv >> 20}MiB or less."
        elif longest >= 16:
            hint = f"Use --context {longest} or less."
    error = NoRoom(
        f"{manifest.name} ({manifest.variant}) does not fit: {readable(needed.needed)} of {where} "
        f"needed{each}, {readable(room.usable)} usable, {readable(needed.missing)} missing.",
        hint=hint,
        param="model",
    )
    error.missing = needed.missing
    error.terms = (
        *room.terms,
        *((kv_term(manifest.shape, kv_dtype),) if route.caches else ()),
        Term("least KV cache", f"{tokens:,} tokens{_on_each(room)}" if route.caches else "none", cache),
        Term("missing", f"{needed.needed:,} B needed - {room.usable:,} B usable", needed.missing),
    )
    return error
