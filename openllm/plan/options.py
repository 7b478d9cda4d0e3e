"""Everything that a machine can make of a model: each form of its weights in each mode, and what is against it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from openllm.errors import EngineMissing, OpenLLMError
from openllm.machine import Machine
from openllm.memory import readable
from openllm.plan.adapters import AdapterRoom
from openllm.plan.make import decide
from openllm.plan.route import Route, routes
from openllm.plan.sizing import NoRoom
from openllm.plan.values import Overrides
from openllm.weights.manifest import Manifest


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """One way: the ``quantize`` word that asks for it with this variant and engine, what it takes in bytes, the longest
    ``context``; or ``why_not``, and then in ``missing`` the bytes too few if that is all."""

    variant: str
    quantize: str
    engine: str
    device: str
    weight_bytes: int = 0
    needed: int = 0
    context: int = 0
    concurrency: int = 0
    why_not: str = ""
    missing: int = 0


def options(manifests: Sequence[Manifest], machine: Machine, installed: frozenset[str]) -> list[Option]:
    """Every way of the table for these weights, best first, whether it can be taken here or not. Pure."""
    return [_option(route, machine) for route in routes(manifests, machine, installed, echo=False)]


def _option(route: Route, machine: Machine) -> Option:
    option = Option(
        variant=route.manifest.variant,
        quantize=route.quantization,
        engine=route.engine,
        device=route.device,
    )
    try:
        if route.blocked is not None:
            raise route.blocked
        sizes, _, _ = decide(route, machine, Overrides(), AdapterRoom())
    except OpenLLMError as error:
        missing = error.missing if isinstance(error, NoRoom) else 0
        return msgspec.structs.replace(option, why_not=_told(error, route), missing=missing)
    return msgspec.structs.replace(
        option,
        weight_bytes=sizes.weight_bytes,
        needed=next(term.bytes for term in sizes.terms if term.what == "in all"),
        context=sizes.context,
        concurrency=sizes.concurrency,
    )


def _told(error: OpenLLMError, route: Route) -> str:
    """The message without the model's name, which the reader knows; of a package, how to have it."""
    if isinstance(error, NoRoom):
        return f"{readable(error.missing)} too large"
    told = error.message.removeprefix(f"{route.manifest.name}: ").rstrip(".")
    return f"{told}: {error.hint}" if isinstance(error, EngineMissing) and error.hint else told
