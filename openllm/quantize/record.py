"""What is kept beside a checkpoint's weights: where it came from, how it was made, what it is worth."""

from __future__ import annotations

from pathlib import Path

import msgspec

from openllm.weights.made import RECORD


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """The floats: which variant, where it is published, and the sha256 of its weights (of several files in order)."""

    variant: str
    quantization: str
    origin: str
    sha256: str


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What the model was shown while it was quantized."""

    origin: str
    sha256: str
    samples: int
    tokens: int
    templated: int
    seed: int


class Worth(msgspec.Struct, frozen=True, kw_only=True):
    """Measured on one engine: perplexity of the held-out text, and greedy tokens a second of one request alone."""

    perplexity: float
    tokens_per_second: float
    bytes: int
    dtype: str
    answer: str = ""


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """``before`` is the source on the same engine. ``unmeasured`` says why a figure is missing, if one is."""

    engine: str
    text_sha256: str
    tokens: int
    before: Worth | None = None
    after: Worth | None = None
    unmeasured: str = ""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Everything. ``seconds`` is what the quantization took, without downloads and measurements."""

    model: str
    mode: str
    bits: int
    group_size: int | None
    bytes: int
    source: Origin
    tool: str
    torch: str
    device: str
    openllm: str
    date: str
    seconds: float
    calibration: Shown | None
    quality: Quality | None = None
    version: int = 1


def write_record(folder: Path, record: Record) -> None:
    """Put ``record`` into a checkpoint's folder."""
    text = msgspec.json.format(msgspec.json.encode(record), indent=2)
    (folder / RECORD).write_bytes(text + b"\n")
