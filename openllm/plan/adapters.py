"""LoRA adapters in a plan: which engines serve them, whether they fit the model, and the room that they take."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from openllm.errors import InvalidAdapter, UnsupportedOption, UsageError
from openllm.memory import readable
from openllm.plan.values import Decision, Overrides
from openllm.weights.adapter import Adapter
from openllm.weights.encoder_facts import ENCODER_TASKS
from openllm.weights.manifest import Manifest

ENGINES = ("vllm",)
"""OpenVINO GenAI's batching pipeline takes adapters and ignores them (seen in 2026.4), so it is not among them."""

_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # those that vLLM has room for (its ``MaxLoRARanks``)
_USUAL_RANK = 16  # vLLM's own; it computes each adapter as if it were as wide as the widest could be
_USUAL_MOST = 8
_MOST_AT_ONCE = 8  # each takes its room in every layer, used or not


class AdapterRoom(msgspec.Struct, frozen=True, kw_only=True):
    """How many adapters are kept (``most``, 0 if none can be), how many one batch can mix (``slots``), and the
    largest ``rank``; ``reasons`` one decision a field, empty if there are none."""

    most: int = 0
    slots: int = 0
    rank: int = 0
    reasons: tuple[Decision, ...] = ()


def wants_adapters(overrides: Overrides) -> bool:
    """Must the engine be able to serve adapters?"""
    return bool(overrides.adapters) or overrides.allow_adapter_loading


def check_backend(overrides: Overrides) -> None:
    """Raise ``UnsupportedOption`` if the backend that was asked for serves no adapters; looks nothing up."""
    if wants_adapters(overrides) and overrides.backend not in (None, *ENGINES):
        raise no_adapters(overrides, f"The {overrides.backend} backend", "Use --backend vllm.")


def check_task(overrides: Overrides, manifest: Manifest) -> None:
    """Raise ``UnsupportedOption`` if adapters are wanted of a model that encodes."""
    if wants_adapters(overrides) and manifest.task in ENCODER_TASKS:
        raise no_adapters(
            overrides, f"{manifest.name}, a model for {manifest.task},", "Choose a chat model: openllm models"
        )


def no_adapters(overrides: Overrides, what: str, hint: str) -> UnsupportedOption:
    """That ``what`` serves no adapters."""
    option = "--adapter" if overrides.adapters else "--allow-adapter-loading"
    return UnsupportedOption(f"{what} cannot serve LoRA adapters ({option}).", hint=hint, param="adapter")


def check_adapters(adapters: Sequence[Adapter], manifest: Manifest) -> None:
    """Raise ``InvalidAdapter`` for an adapter that was made for a model of another shape, or a name that is taken.

    The engine compares every matrix; this is what can be told before anything is fetched.
    """
    names = [manifest.name, *(adapter.name for adapter in adapters)]
    for name in {name for name in names if names.count(name) > 1}:
        what = "the model's own name" if name == manifest.name else "given twice"
        raise InvalidAdapter(
            f"--adapter {name}: that name is {what}.", hint="Choose another name.", param="adapter"
        )
    shape = manifest.shape
    for adapter in adapters:
        if adapter.hidden not in (0, shape.hidden):
            raise _misfit(adapter, manifest, f"a width of {adapter.hidden}", f"{shape.hidden}")
        if adapter.layers > shape.layers:
            raise _misfit(adapter, manifest, f"{adapter.layers} layers or more", f"{shape.layers}")


def adapter_room(adapters: Sequence[Adapter], overrides: Overrides) -> AdapterRoom:
    """Decide the room for ``adapters`` and, if allowed, for those loaded later. Raises ``UsageError``."""
    if not wants_adapters(overrides):
        for option in ("max_adapters", "max_adapter_rank"):
            if getattr(overrides, option) is not None:
                raise UsageError(
                    f"--{option.replace('_', '-')} is for adapters that are loaded while the server runs.",
                    hint="Add --allow-adapter-loading, or leave it out.",
                    param=option,
                )
        return AdapterRoom()
    most, why_most = _most(adapters, overrides)
    rank, why_rank = _rank(adapters, overrides)
    slots = min(most, _MOST_AT_ONCE)
    why_slots = (
        "all of them" if slots == most else "each takes room in every layer; the others wait their turn"
    )
    names = ", ".join(adapter.name for adapter in adapters) or "none yet"
    size = f"asked for, {readable(sum(adapter.bytes for adapter in adapters))}" if adapters else ""
    more = "more can be loaded while it runs" if overrides.allow_adapter_loading else ""
    return AdapterRoom(
        most=most,
        slots=slots,
        rank=rank,
        reasons=(
            Decision("adapters", names, "; ".join(filter(None, (size, more)))),
            Decision("max_adapters", str(most), why_most),
            Decision("adapters_at_once", str(slots), why_slots),
            Decision("max_adapter_rank", str(rank), why_rank),
        ),
    )


def _most(adapters: Sequence[Adapter], overrides: Overrides) -> tuple[int, str]:
    asked = overrides.max_adapters
    if asked is not None:
        if asked < len(adapters):
            raise UsageError(
                f"--max-adapters {asked} is fewer than the {len(adapters)} of --adapter.",
                hint=f"Use --max-adapters {len(adapters)} or more.",
                param="max_adapters",
            )
        return asked, "asked for"
    if not overrides.allow_adapter_loading:
        return len(adapters), "those of --adapter"
    most = max(len(adapters), _USUAL_MOST)
    return most, "default" if most == _USUAL_MOST else "those of --adapter"


def _rank(adapters: Sequence[Adapter], overrides: Overrides) -> tuple[int, str]:
    widest = max((adapter.rank for adapter in adapters), default=0)
    asked = overrides.max_adapter_rank
    if asked is not None:
        if asked < widest:
            raise UsageError(
                f"--max-adapter-rank {asked} is less than the rank {widest} of an adapter.",
                hint=f"Use --max-adapter-rank {widest} or more.",
                param="max_adapter_rank",
            )
        return _room_for(asked), "asked for"
    if overrides.allow_adapter_loading and widest <= _USUAL_RANK:
        return _USUAL_RANK, "vLLM's default; a wider place slows every adapter"
    return _room_for(widest), f"the widest has {widest}"


def _room_for(rank: int) -> int:
    return next(each for each in _RANKS if each >= rank)


def _misfit(adapter: Adapter, manifest: Manifest, made_for: str, has: str) -> InvalidAdapter:
    base = f" (made for {adapter.base})" if adapter.base else ""
    return InvalidAdapter(
        f"The adapter {adapter.name}{base} is for a model with {made_for}; {manifest.name} has {has}.",
        hint="Use an adapter that was trained on this model.",
        param="adapter",
    )
