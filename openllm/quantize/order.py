"""What is asked for, and where it is made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from openllm.machine import Machine
from openllm.quantize.modes import Mode
from openllm.weights.settings import HubSettings


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be made. ``output`` None puts it where the model's name finds it."""

    mode: Mode
    output: Path | None = None
    calibration: Path | None = None
    samples: int = 128
    group_size: int | None = None
    seed: int = 0
    variant: str | None = None
    threads: int | None = None
    force: bool = False
    measure: bool = True


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where it is made: the cache, the machine, what may be connected to."""

    cache: Path
    hub: HubSettings
    machine: Machine
    engines: frozenset[str]
    environ: Mapping[str, str]
    offline: bool = False
