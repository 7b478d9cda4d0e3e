"""Real engines against transformers in float32: the same greedy answers, and hardly more perplexity."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.util import find_spec

import pytest

from benchmarks.matrix_row import openvino_losses
from openllm.engines.base import EngineConfig
from tests.engines.child import Child, EngineChild, generation
from tests.engines.conftest import ANSWER, DEFAULT, EXACT, Start
from tests.engines.reference import Reference

MOST_PERPLEXITY = 1.02  # of transformers' own

pytestmark = pytest.mark.parametrize("name", ["openvino", "vllm", "transformers"])


@pytest.fixture
def exact(name: str, start: Start, configure: Callable[..., EngineConfig]) -> EngineChild:
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    return start(configure(name, **EXACT[name]))


def test_alone(exact: EngineChild, reference: Child, prompts: list[list[int]]) -> None:
    for prompt in prompts:
        request = generation(prompt, ANSWER)
        answer = exact.run(request)[request.id][0]
        assert len(answer) == ANSWER
        assert reference.ask(Reference.greedy_mistake, prompt, answer) is None, f"{len(prompt)} tokens"


def test_in_a_batch_of_16(exact: EngineChild, reference: Child, prompts: list[list[int]]) -> None:
    assert exact.config.max_sequences == 16
    requests = [generation(prompt, ANSWER) for prompt in prompts]
    result = exact.run(*requests)
    for request in requests:
        answer = result[request.id][0]
        assert reference.ask(Reference.greedy_mistake, request.prompt, answer) is None, len(request.prompt)


def test_default_perplexity(
    name: str,
    start: Start,
    configure: Callable[..., EngineConfig],
    text_ids: list[int],
    reference: Child,
) -> None:
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    engine = start(configure(name, **DEFAULT[name]))
    openvino = name == "openvino"
    losses = engine.ask(openvino_losses, text_ids) if openvino else _told_losses(engine, text_ids)
    assert len(losses) == len(text_ids) - 1
    best = reference.ask(Reference.perplexity, text_ids)
    assert math.exp(sum(losses) / len(losses)) <= MOST_PERPLEXITY * best


def _told_losses(engine: EngineChild, text: list[int]) -> list[float]:
    """Loss of each token but the first, as the engine tells a client."""
    engine.add(generation(text, 1, prompt_logprobs=0))
    places = [place for delta in engine.steps() for place in delta.prompt_logprobs or []]
    return [-place[0][1] for place in places]
