"""Copies of the weights that an engine holds beside those that it computes with. Sizes in bytes."""

from __future__ import annotations

from typing import Protocol

from openllm.memory import Term
from openllm.weights.encoder_facts import ENCODER_TASKS
from openllm.weights.manifest import Manifest


class Way(Protocol):
    """What of a route, or of a plan, decides this."""

    @property
    def manifest(self) -> Manifest: ...
    @property
    def engine(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def quantization(self) -> str: ...


def converted_floats(way: Way, dtype: str, weights: int) -> tuple[Term, ...]:
    """OpenVINO holds floats of 16 bits twice in memory of its own, converted and packed. Seen in 2026.4."""
    exact = way.manifest.format == "gguf" and dtype == "float32"  # they are written as float32
    if way.engine != "openvino" or _encodes(way) or way.quantization != "none" or exact:
        return ()
    text = "the plugin's copy in the type that it computes with, before it is packed"
    return (Term("converted floats", text, weights),)


def mapped_file(way: Way, dtype: str, weights: int, *, rounded: bool) -> tuple[Term, ...]:
    """Pages of the weights' file that stay resident. The system takes them back when memory is short, so a plan fits
    without them. ``rounded``: the weights are made of floats at each start, or once."""
    if way.device != "cpu" or _encodes(way) or converted_floats(way, dtype, weights):
        return ()
    if way.engine == "openvino":
        text = "the IR, beside the plugin's packed copy; given back when memory is short"
        return (Term("mapped file", text, weights),)
    if way.engine == "transformers" and rounded and way.quantization != "none":
        manifest = way.manifest
        stored = manifest.bytes if manifest.format == "safetensors" else 4 * manifest.shape.parameters
        return (Term("mapped file", "the floats that were rounded; given back when memory is short", stored),)
    return ()


def _encodes(way: Way) -> bool:
    return way.manifest.task in ENCODER_TASKS
