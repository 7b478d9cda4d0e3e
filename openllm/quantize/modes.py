"""The modes that a checkpoint can be made in, and what each asks of the model."""

from __future__ import annotations

from typing import Literal

import msgspec

from openllm.errors import UnsupportedOption

Tool = Literal["gptqmodel", "llmcompressor", "openvino"]


class Mode(msgspec.Struct, frozen=True, kw_only=True):
    """``engine`` is the backend that serves it; ``bits`` those of a weight; ``grouped`` says that groups of weights
    share a scale; ``calibrates`` that samples are needed."""

    name: str
    tool: Tool
    engine: str
    bits: int
    grouped: bool
    calibrates: bool
    about: str


MODES = {
    mode.name: mode
    for mode in (
        Mode(
            name="gptq", tool="gptqmodel", engine="vllm", bits=4, grouped=True, calibrates=True,
            about="4 bit weights, errors made up for by the weights not yet rounded",
        ),
        Mode(
            name="awq", tool="gptqmodel", engine="vllm", bits=4, grouped=True, calibrates=True,
            about="4 bit weights, scaled so that those for large activations lose least",
        ),
        Mode(
            name="w4a16", tool="llmcompressor", engine="vllm", bits=4, grouped=True, calibrates=True,
            about="4 bit weights, as compressed-tensors",
        ),
        Mode(
            name="w8a8", tool="llmcompressor", engine="vllm", bits=8, grouped=False, calibrates=True,
            about="8 bit weights and activations, as compressed-tensors",
        ),
        Mode(
            name="fp8", tool="llmcompressor", engine="vllm", bits=8, grouped=False, calibrates=False,
            about="8 bit floats, for GPUs, as compressed-tensors",
        ),
        Mode(
            name="int8", tool="openvino", engine="openvino", bits=8, grouped=False, calibrates=False,
            about="8 bit weights, an OpenVINO IR",
        ),
        Mode(
            name="int4", tool="openvino", engine="openvino", bits=4, grouped=True, calibrates=False,
            about="4 bit weights, an OpenVINO IR",
        ),
    )
}  # fmt: skip


def mode_named(name: str) -> Mode:
    """Raises ``UnsupportedOption``."""
    mode = MODES.get(name.lower())
    if mode is None:
        raise UnsupportedOption(
            f"There is no mode {name!r} to quantize to.", hint=f"Choose {', '.join(MODES)}.", param="mode"
        )
    return mode
