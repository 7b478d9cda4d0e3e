"""Leaves the routes that agree with what the caller insists on; says what would work when none does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from openllm.errors import OpenLLMError, UnsupportedOption
from openllm.machine import Machine
from openllm.plan.adapters import ENGINES as ADAPTER_ENGINES
from openllm.plan.adapters import no_adapters, wants_adapters
from openllm.plan.route import BACKENDS, Route, routes
from openllm.plan.support import find, loose_words, words
from openllm.plan.values import Overrides
from openllm.weights.manifest import Manifest

DEVICES = ("cpu", "cuda")
_FLOATS = {
    "bf16": "bfloat16", "bfloat16": "bfloat16", "fp16": "float16", "float16": "float16", "f16": "float16",
    "half": "float16", "fp32": "float32", "float32": "float32", "f32": "float32",
}  # fmt: skip


def candidates(
    manifests: Sequence[Manifest], machine: Machine, overrides: Overrides, installed: frozenset[str]
) -> list[Route]:
    """Routes that this machine can take and the overrides allow, best first; never empty.

    Raises ``UnsupportedOption`` when an override leaves none, ``EngineMissing`` or ``MachineError`` when this
    machine lacks what is left.
    """
    _check_names(overrides)
    chosen = of_variant(manifests, overrides.variant)
    found = routes(chosen, machine, installed, echo=overrides.backend == "echo")
    if not found:
        raise _only_elsewhere(chosen)
    found = _on_backend(found, overrides.backend, chosen)
    found = _with_adapters(found, overrides)
    found = _on_device(found, overrides.device, machine)
    found = _quantized(found, overrides.quantize)
    able = [route for route in found if route.blocked is None]
    if not able:
        raise found[0].blocked or AssertionError("a route is open or says why not")
    return able


def blocked_before(
    route: Route, manifests: Sequence[Manifest], machine: Machine, installed: frozenset[str]
) -> OpenLLMError | None:
    """Why the best way on a GPU was not taken, if ``route`` is on the CPU for that reason."""
    if route.device != "cpu" or not machine.gpus:
        return None
    return next((other.blocked for other in routes(manifests, machine, installed, echo=False)), None)


def _check_names(overrides: Overrides) -> None:
    backend, device = overrides.backend, overrides.device
    if backend is not None and backend not in BACKENDS:
        raise UnsupportedOption(
            f"There is no backend {backend!r}.", hint=f"Choose {_listed(BACKENDS)}.", param="backend"
        )
    if device is not None and device not in DEVICES:
        raise UnsupportedOption(
            f"There is no device {device!r}.", hint=f"Choose {_listed(DEVICES)}.", param="device"
        )


def of_variant(manifests: Sequence[Manifest], variant: str | None) -> list[Manifest]:
    """The manifests of the variant of that name, or all of them. Raises ``UnsupportedOption``."""
    if variant is None:
        return list(manifests)
    found = [manifest for manifest in manifests if manifest.variant.lower() == variant.lower()]
    if not found:
        raise UnsupportedOption(
            f"{manifests[0].name} has no variant {variant!r}.",
            hint=f"It has {_listed(manifest.variant for manifest in manifests)}.",
            param="variant",
        )
    return found


def _only_elsewhere(manifests: Sequence[Manifest]) -> UnsupportedOption:
    engines = _listed({engine for manifest in manifests for engine in manifest.engines})
    if not engines:
        return UnsupportedOption(
            f"No engine can run {manifests[0].name} ({manifests[0].shape.architecture}) in this form.",
            hint="Choose another variant or model: openllm models",
            param="model",
        )
    return UnsupportedOption(
        f"{manifests[0].name} runs on {engines} only, which is not part of this version.",
        hint="Choose another variant or model: openllm models",
        param="model",
    )


def _on_backend(found: list[Route], backend: str | None, manifests: Sequence[Manifest]) -> list[Route]:
    kept = [route for route in found if backend in (None, route.engine)]
    if not kept:
        formats = _listed({manifest.format for manifest in manifests})
        raise UnsupportedOption(
            f"The {backend} backend cannot run {manifests[0].name} ({formats}).",
            hint=f"Use --backend {' or '.join(_ordered(route.engine for route in found))}.",
            param="backend",
        )
    return kept


def _with_adapters(found: list[Route], overrides: Overrides) -> list[Route]:
    if not wants_adapters(overrides):
        return found
    kept = [route for route in found if route.engine in ADAPTER_ENGINES]
    if not kept:
        first = found[0]
        hint = "Serve its safetensors or a GGUF file of it with --backend vllm."
        raise no_adapters(
            overrides, f"{first.manifest.name} ({first.manifest.format}) on {first.engine}", hint
        )
    return kept


def _on_device(found: list[Route], device: str | None, machine: Machine) -> list[Route]:
    kept = [route for route in found if device in (None, route.device)]
    if not kept:
        if device == "cuda" and not machine.gpus:
            raise UnsupportedOption(
                "--device cuda: no GPU was found.", hint="Use --device cpu.", param="device"
            )
        raise UnsupportedOption(
            f"{found[0].engine} cannot run {found[0].manifest.name} on the device {device}.",
            hint=f"Use --device {' or '.join(_ordered(route.device for route in found))}.",
            param="device",
        )
    return kept


def _quantized(found: list[Route], wanted: str | None) -> list[Route]:
    if wanted is None:
        return [route for route in found if not route.on_demand]
    names = {wanted.lower(), f"gguf-{wanted.lower()}"}
    kept = [route for route in found if names & route.answers]
    if not kept:
        raise _not_quantized(found, wanted)
    # Weights that were stored in that very mode come first. Who asks for none wants such as never were quantized.
    return sorted(
        kept, key=lambda route: (route.dequantizes, wanted.lower() in loose_words(route.quantization))
    )


def _not_quantized(found: list[Route], wanted: str) -> UnsupportedOption:
    """Says what the weights are, why not so, and what would work."""
    if wanted.lower() in _FLOATS:
        return UnsupportedOption(
            f"--quantize {wanted} is no quantization but a dtype.",
            hint=f"Use --quantize none --dtype {_FLOATS[wanted.lower()]}.",
            param="quantize",
        )
    able = [route for route in found if route.blocked is None] or found
    modes = _ordered(word for route in able for word in sorted(route.answers))
    held = _ordered(route.manifest.quantization for route in found)
    kinds = "floats" if held == ["none"] else _listed("floats" if kind == "none" else kind for kind in held)
    why = "; ".join(_ordered(_reasons(found, wanted.lower())))
    return UnsupportedOption(
        f"--quantize {wanted} cannot be honoured for {found[0].manifest.name} on"
        f" {' or '.join(_ordered(route.engine for route in found))}: its weights are {kinds}"
        f"{f' ({why})' if why else ''}.",
        hint=(f"What works here: {_listed(modes)}." if modes else "Leave --quantize out.")
        + _misspelt(wanted.lower()),
        param="quantize",
    )


def _misspelt(word: str) -> str:
    """What a word that no engine knows may have meant."""
    if word in words() or f"gguf-{word}" in words():
        return ""
    near = get_close_matches(word, words(), 1)
    return f" Did you mean {near[0]}?" if near else ""


def _reasons(found: list[Route], wanted: str) -> Iterable[str]:
    """What the table says of engines that cannot make such weights."""
    for route in found:
        for row in find(route.manifest, route.engine, route.device):
            if row.runs == wanted and row.refused:
                yield f"{route.engine}: {row.refused}"


def _ordered(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))


def _listed(words: Iterable[str]) -> str:
    return ", ".join(sorted(words) if isinstance(words, set) else _ordered(words))
