"""Logprobs and biases: what transformers says in float32, or a refusal that names the parameter."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest

from openllm.engines.base import Delta, EngineConfig, Logprobs
from openllm.errors import RequestError, UnsupportedParameter
from tests.engines.child import Child, EngineChild, generation
from tests.engines.conftest import EXACT, Start
from tests.engines.reference import Reference

TOLERANCE = 2e-3


@pytest.fixture(params=["vllm", "transformers"])
def able(request: pytest.FixtureRequest, start: Start, configure: Callable[..., EngineConfig]) -> EngineChild:
    if find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return start(configure(request.param, **EXACT[request.param]))


def run(engine: EngineChild, prompt: list[int], **sampling: Any) -> list[Delta]:
    engine.add(generation(prompt, **sampling))
    return list(engine.steps())


def check(place: Logprobs, expected: list[float], chosen: int, top: int) -> None:
    """The chosen token first, then the ``top`` likeliest in order, each as the reference has it."""
    assert [token for token, _ in place[:1]] == [chosen]
    assert all(abs(value - expected[token]) < TOLERANCE for token, value in place)
    values = [value for _, value in place[1:]]
    assert values == sorted(values, reverse=True)
    assert values == pytest.approx(sorted(expected, reverse=True)[:top], abs=TOLERANCE)


def test_of_answer_and_prompt(able: EngineChild, reference: Child, text_ids: list[int]) -> None:
    prompt = text_ids[:40]
    deltas = run(able, prompt, max_tokens=8, logprobs=5, prompt_logprobs=2)
    answer = [token for delta in deltas for token in delta.tokens]
    places = [place for delta in deltas for place in delta.logprobs or []]
    asked = [place for delta in deltas for place in delta.prompt_logprobs or []]
    expected = reference.ask(Reference.logprobs, prompt + answer)
    assert len(places) == len(answer) == 8
    assert len(asked) == len(prompt) - 1
    assert deltas[0].prompt_logprobs == asked
    for index, place in enumerate(asked):
        check(place, expected[index], prompt[index + 1], 2)
    for index, place in enumerate(places):
        check(place, expected[len(prompt) - 1 + index], answer[index], 5)


def test_they_are_before_temperature_and_others_get_none(able: EngineChild, text_ids: list[int]) -> None:
    prompt = text_ids[:20]
    plain = run(able, prompt, max_tokens=1, logprobs=3)[0].logprobs
    hot = run(able, prompt, max_tokens=1, logprobs=3, temperature=2.0, seed=1, top_k=5)[0].logprobs
    assert plain is not None
    assert hot is not None
    assert hot[0][1:] == plain[0][1:]
    requests = [generation(prompt, 2), generation(prompt, 2, logprobs=0), generation(prompt, 2, logprobs=4)]
    for request in requests:
        able.add(request)
    for delta in able.steps():
        asked = requests[[request.id for request in requests].index(delta.id)].sampling.logprobs
        assert (delta.logprobs is None) == (asked is None)
        assert all(len(place) == 1 + (asked or 0) for place in delta.logprobs or [])


def test_the_stop_id_has_none(able: EngineChild, text_ids: list[int]) -> None:
    tokens = [token for delta in run(able, text_ids[:40], max_tokens=6) for token in delta.tokens]
    deltas = run(able, text_ids[:40], max_tokens=6, logprobs=1, stop_ids=(tokens[3],))
    for delta in deltas:
        assert len(delta.logprobs or []) == len(delta.tokens)


def test_a_bias_forbids_and_forces(able: EngineChild, text_ids: list[int]) -> None:
    prompt = text_ids[:40]
    first = run(able, prompt, max_tokens=1)[0].tokens[0]
    assert run(able, prompt, max_tokens=1, logit_bias=((first, -100.0),))[0].tokens[0] != first
    assert run(able, prompt, max_tokens=1, logit_bias=((77, 100.0),))[0].tokens == [77]


@pytest.mark.parametrize(
    "wrong", [{"logprobs": 21}, {"prompt_logprobs": -1}, {"logit_bias": ((10**6, 1.0),)}], ids=str
)
def test_out_of_range(able: EngineChild, text_ids: list[int], wrong: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=next(iter(wrong))):
        able.add(generation(text_ids[:5], **wrong))


@pytest.mark.parametrize(
    "asked", [{"logprobs": 0}, {"prompt_logprobs": 0}, {"logit_bias": ((5, 1.0),)}], ids=str
)
def test_openvino_refuses(
    start: Start, configure: Callable[..., EngineConfig], text_ids: list[int], asked: dict[str, Any]
) -> None:
    engine = start(configure("openvino", **EXACT["openvino"]))
    with pytest.raises(UnsupportedParameter, match=next(iter(asked))) as refused:
        engine.add(generation(text_ids[:5], **asked))
    assert refused.value.param == next(iter(asked))
    assert "vllm" in str(refused.value.hint)


def test_echo_is_certain(start: Start, configure: Callable[..., EngineConfig]) -> None:
    engine = start(configure("echo"))
    deltas = run(engine, [5, 6], max_tokens=2, logprobs=3)
    assert [delta.logprobs for delta in deltas] == [[[(5, 0.0), (5, 0.0)]], [[(6, 0.0), (6, 0.0)]]]
    with pytest.raises(UnsupportedParameter, match="prompt_logprobs"):
        engine.add(generation([5, 6], prompt_logprobs=1))
