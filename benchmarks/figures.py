"""The figures: their names, units, and which way is better; and what we ask of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured quantity. A figure of a load has a key for each stream count: ``KEY@STREAMS``."""

    key: str
    label: str
    unit: str
    more_is_better: bool = False


START = (
    Figure("port_open", "command to open port", "s"),
    Figure("first_token", "command to first token", "s"),
    Figure("first_requests", "requests sent until one was answered", "1"),
)
LOAD = (
    Figure("tokens_per_s", "output tokens/s", "1/s", more_is_better=True),
    Figure("ttft_p50", "time to first token, p50", "ms"),
    Figure("ttft_p99", "time to first token, p99", "ms"),
    Figure("itl_p50", "inter-token latency, p50", "ms"),
    Figure("itl_p99", "inter-token latency, p99", "ms"),
    Figure("tokens_per_event", "tokens a streamed event", "1"),
    Figure("front_us_per_token", "front CPU a streamed token", "µs"),
    Figure("front_cpu_s", "CPU, front process", "s"),
    Figure("engine_cpu_s", "CPU, engine process(es)", "s"),
    Figure("cpu_ms_per_token", "CPU, all processes, a token", "ms"),
    Figure("client_cpu_s", "CPU, load generator", "s"),
)
MEMORY = (
    Figure("front_peak_mb", "peak memory, front process", "MB"),
    Figure("engine_peak_mb", "peak memory, engine process(es)", "MB"),
    Figure("total_pss_mb", "memory of all at the end, shared pages once", "MB"),
)


@dataclass(frozen=True)
class Goal:
    """A bound on ours/peer, or on ours alone if ``absolute``. Exactly one of the bounds is set."""

    key: str
    at_least: float | None = None
    at_most: float | None = None
    absolute: bool = False

    def met(self, ours: float, ratio: float | None) -> bool | None:
        """None if there is no peer to compare with."""
        value = ours if self.absolute else ratio
        if value is None:
            return None
        if self.at_least is not None:
            return value >= self.at_least
        assert self.at_most is not None
        return value <= self.at_most

    def __str__(self) -> str:
        bound = f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"
        return bound if self.absolute else f"{bound}x"


def keys(streams: tuple[int, ...]) -> list[tuple[str, Figure, int | None]]:
    """Every key of a table in its order, with its figure and stream count."""
    rows: list[tuple[str, Figure, int | None]] = [(figure.key, figure, None) for figure in START]
    rows += [(f"{figure.key}@{count}", figure, count) for figure in LOAD for count in streams]
    return rows + [(figure.key, figure, None) for figure in MEMORY]


def best(candidates: Mapping[str, float], figure: Figure) -> str:
    """The name of the candidate that does best in this figure."""
    choose = max if figure.more_is_better else min
    return choose(candidates, key=lambda name: candidates[name])
