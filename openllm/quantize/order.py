"""What is asked for, and where it is made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from openllm.machine import Machine
from openllm.quantize.modes import Mode
from openllm.weights.settings import HubSettings

_SAMPLES = 64


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be made. ``output`` None puts it where the model's name finds it; other fields that are None were not
    asked for."""

    mode: Mode
    output: Path | None = None
    calibration: Path | None = None
    samples: int | None = None
    group_size: int | None = None
    seed: int | None = None
    variant: str | None = None
    threads: int | None = None
    force: bool = False
    measure: bool = True

    @property
    def most_samples(self) -> int:
        """Samples of calibration at the most; 0 in a mode that needs none."""
        if not self.mode.calibrates:
            return 0
        return _SAMPLES if self.samples is None else self.samples

    @property
    def chosen_seed(self) -> int:
        """What the random choices of calibration begin with."""
        return self.seed or 0


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where it is made: the cache, the machine, what may be connected to."""

    cache: Path
    hub: HubSettings
    machine: Machine
    engines: frozenset[str]
    environ: Mapping[str, str]
    offline: bool = False
