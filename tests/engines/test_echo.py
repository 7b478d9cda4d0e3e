"""What is the echo engine's own; the contract itself is in test_contract.py."""

from __future__ import annotations

import time

import pytest

from openllm.engines.base import EngineConfig, Generation, Sampling
from openllm.engines.echo_engine import EchoEngine, EchoOptions, read_options
from openllm.engines.open import open_engine
from openllm.errors import UnsupportedOption


def echo(options: dict[str, str] | None = None, width: int = 64) -> EchoEngine:
    config = EngineConfig(
        engine="echo", path="", name="echo", dtype="float32", quantization="none", context=1024,
        max_sequences=width, kv_cache_bytes=0, threads=1, cache="", options=options or {},
    )  # fmt: skip
    engine = open_engine(config, report=lambda _: None)
    assert isinstance(engine, EchoEngine)
    return engine


def test_repeats_the_prompt_round_and_round() -> None:
    engine = echo()
    engine.add(Generation(1, [5, 6, 7], Sampling(max_tokens=5)))
    tokens = [token for _ in range(5) for delta in engine.step() for token in delta.tokens]
    assert tokens == [5, 6, 7, 5, 6]
    assert not engine.busy()


def test_min_tokens_skips_stop_ids_even_if_the_prompt_holds_nothing_else() -> None:
    engine = echo()
    engine.add(Generation(1, [0, 1], Sampling(max_tokens=9, stop_ids=(0, 1), min_tokens=2)))
    assert [delta.tokens for _ in range(2) for delta in engine.step()] == [[2], [2]]
    assert [(delta.tokens, delta.finish) for delta in engine.step()] == [([], "stop")]


def test_no_more_than_max_sequences_at_once() -> None:
    engine = echo(width=2)
    for request in range(3):
        engine.add(Generation(request, [1], Sampling(max_tokens=1)))
    assert [delta.id for delta in engine.step()] == [0, 1]
    assert [delta.id for delta in engine.step()] == [2]


def test_delay_is_per_step() -> None:
    engine = echo({"delay": "0.05"})
    engine.add(Generation(1, [1], Sampling(max_tokens=2)))
    start = time.perf_counter()
    engine.step()
    assert time.perf_counter() - start >= 0.05


def test_options_are_read_or_refused() -> None:
    assert read_options({}) == EchoOptions()
    assert read_options({"delay": "0.5", "load": "2"}) == EchoOptions(delay=0.5, load=2.0)
    for wrong in ({"dealy": "1"}, {"delay": "fast"}, {"delay": ""}):
        with pytest.raises(UnsupportedOption, match="Echo engine"):
            read_options(wrong)
