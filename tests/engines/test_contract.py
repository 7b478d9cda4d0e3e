"""The contract of ``engines.base.Engine``, the same for every engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import msgspec
import pytest

from openllm.engines.base import EngineConfig
from openllm.errors import ContextLengthExceeded, RequestError
from tests.engines.child import EngineChild, fold, generation
from tests.engines.conftest import CONTEXT, EXACT, Start

ENGINES = ("echo", "openvino", "vllm", "transformers")


@pytest.fixture(params=ENGINES)
def engine(
    request: pytest.FixtureRequest, start: Start, configure: Callable[..., EngineConfig]
) -> Iterator[EngineChild]:
    name = request.param
    if name != "echo" and find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    child = start(configure(name, **EXACT.get(name, {})))
    yield child
    assert not child.busy(), "a test left a sequence"


@pytest.fixture
def prompt(text_ids: list[int]) -> list[int]:
    return text_ids[:40]


def alone(engine: EngineChild, prompt: list[int], max_tokens: int = 16, **sampling: Any) -> list[int]:
    request = generation(prompt, max_tokens, **sampling)
    return engine.run(request)[request.id][0]


class TestGreedy:
    def test_same_prompt_same_answer(self, engine: EngineChild, prompt: list[int]) -> None:
        first = alone(engine, prompt)
        assert len(first) == 16
        assert [alone(engine, prompt) for _ in range(3)] == [first] * 3

    def test_neighbours_do_not_matter(self, engine: EngineChild, text_ids: list[int]) -> None:
        requests = [generation(text_ids[10 * n : 10 * n + 5 + 3 * n], 8) for n in range(16)]
        singly = [alone(engine, request.prompt, 8) for request in requests]
        together = engine.run(*requests)
        assert [together[request.id][0] for request in requests] == singly

    def test_arriving_later_does_not_matter(self, engine: EngineChild, prompt: list[int]) -> None:
        expected = alone(engine, prompt[:20]), alone(engine, prompt)
        early, late = generation(prompt[:20]), generation(prompt)
        engine.add(early)
        begun = [delta for _ in range(4) for delta in engine.step()]
        engine.add(late)
        result = fold([*begun, *engine.steps()])
        assert (result[early.id][0], result[late.id][0]) == expected

    def test_more_sequences_than_fit_in_a_batch(self, engine: EngineChild, prompt: list[int]) -> None:
        requests = [generation(prompt, 3) for _ in range(engine.config.max_sequences + 5)]
        result = engine.run(*requests)
        assert {tuple(tokens) for tokens, _ in result.values()} == {tuple(alone(engine, prompt, 3))}
        assert len(result) == len(requests)


class TestEnds:
    def test_max_tokens(self, engine: EngineChild, prompt: list[int]) -> None:
        for count in (1, 2, 7):
            request = generation(prompt, count)
            tokens, finish = engine.run(request)[request.id]
            assert (len(tokens), finish) == (count, "length")

    def test_stop_id_ends_and_is_left_out(self, engine: EngineChild, prompt: list[int]) -> None:
        tokens = alone(engine, prompt)
        stop = tokens[5]
        request = generation(prompt, stop_ids=(stop, 49_151))
        assert engine.run(request)[request.id] == (tokens[: tokens.index(stop)], "stop")

    def test_stop_id_as_the_last_allowed_token(self, engine: EngineChild, prompt: list[int]) -> None:
        tokens = alone(engine, prompt)
        at = next(index for index in range(3, 16) if tokens.index(tokens[index]) == index)
        request = generation(prompt, at + 1, stop_ids=(tokens[at],))
        assert engine.run(request)[request.id] == (tokens[:at], "stop")

    def test_min_tokens_bans_every_stop_id(self, engine: EngineChild, prompt: list[int]) -> None:
        first = alone(engine, prompt, 1)[0]
        request = generation(prompt, 12, stop_ids=(49_151, first), min_tokens=6)
        tokens, _ = engine.run(request)[request.id]
        assert len(tokens) >= 6
        assert first not in tokens

    def test_other_requests_are_told_apart(self, engine: EngineChild, prompt: list[int]) -> None:
        short, long = generation(prompt, 2), generation(prompt, 9)
        result = engine.run(short, long)
        assert (len(result[short.id][0]), len(result[long.id][0])) == (2, 9)


class TestAbort:
    def test_nothing_follows_and_others_go_on(self, engine: EngineChild, prompt: list[int]) -> None:
        expected = alone(engine, prompt)
        kept = [generation(prompt) for _ in range(3)]
        dropped = generation(prompt[:30], 400)
        for request in (kept[0], dropped, *kept[1:]):
            engine.add(request)
        begun = [delta for _ in range(3) for delta in engine.step()]
        assert any(delta.id == dropped.id for delta in begun)
        engine.abort(dropped.id)
        after = list(engine.steps())
        assert all(delta.id != dropped.id for delta in after)
        result = fold([*begun, *after])
        assert [result[request.id] for request in kept] == [(expected, "length")] * 3

    def test_before_the_first_step(self, engine: EngineChild, prompt: list[int]) -> None:
        request = generation(prompt)
        engine.add(request)
        engine.abort(request.id)
        assert not engine.busy()
        assert alone(engine, prompt, 2)

    def test_unknown_and_ended_ids_are_ignored(self, engine: EngineChild, prompt: list[int]) -> None:
        request = generation(prompt, 1)
        engine.run(request)
        engine.abort(request.id)
        engine.abort(10**9)
        assert len(alone(engine, prompt)) == 16

    def test_gives_back_its_memory(self, engine: EngineChild, text_ids: list[int]) -> None:
        """Twice the cache that there is, were it not given back."""
        long = (text_ids * 5)[:1500]
        for start in range(6):
            request = generation(long[start:], 400)
            engine.add(request)
            engine.step()
            engine.step()
            engine.abort(request.id)
        assert len(alone(engine, long)) == 16


class TestSampling:
    """Each parameter by construction: a setting whose effect does not depend on luck."""

    def test_seed_repeats_alone_and_in_a_batch(self, engine: EngineChild, prompt: list[int]) -> None:
        def seeded(seed: int | None) -> dict[str, Any]:
            return {"temperature": 1.0, "seed": seed}

        first, second = alone(engine, prompt, **seeded(7)), alone(engine, prompt, **seeded(8))
        requests = [generation(prompt, **seeded(seed)) for seed in (8, None, 7, None, 7)]
        result = engine.run(*requests)
        assert [result[requests[n].id][0] for n in (0, 2, 4)] == [second, first, first]

    def test_seed_of_prompts_computed_in_parts(self, engine: EngineChild, text_ids: list[int]) -> None:
        """The batch cuts the prompts elsewhere than when each is alone."""
        long = (text_ids * 4)[:1000]
        sampled: dict[str, Any] = {"temperature": 1.0, "seed": 5, "max_tokens": 6}
        prompts = [long, long[3:700], long[5:40], long[9:]]
        singly = [alone(engine, prompt, **sampled) for prompt in prompts]
        requests = [generation(prompt, **sampled) for prompt in prompts]
        result = engine.run(*requests)
        assert [result[request.id][0] for request in requests] == singly

    def test_large_seeds_are_taken(self, engine: EngineChild, prompt: list[int]) -> None:
        for seed in (0, 2**31, 2**63 - 1, -5):
            expected = alone(engine, prompt, 8, temperature=1.0, seed=seed)
            assert alone(engine, prompt, 8, temperature=1.0, seed=seed) == expected

    def test_seeds_differ_and_none_is_random(self, engine: EngineChild, prompt: list[int]) -> None:
        seeded = {tuple(alone(engine, prompt, temperature=1.0, seed=seed)) for seed in range(4)}
        unseeded = {tuple(alone(engine, prompt, temperature=1.0)) for _ in range(4)}
        if is_echo(engine):  # all probability is on one token
            assert seeded == unseeded == {tuple(alone(engine, prompt))}
        else:
            assert len(seeded) == len(unseeded) == 4

    @pytest.mark.parametrize(
        "narrow", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 0.9999}, {"temperature": 0.01, "top_k": 2}]
    )
    def test_filters_that_leave_one_token(
        self, engine: EngineChild, prompt: list[int], narrow: dict[str, Any]
    ) -> None:
        expected = alone(engine, prompt, 8)
        for seed in range(3):
            settings = {"temperature": 1.0, "seed": seed, **narrow}
            assert alone(engine, prompt, 8, **settings) == expected

    def test_filters_switched_off_change_nothing(self, engine: EngineChild, prompt: list[int]) -> None:
        plain = alone(engine, prompt, temperature=1.0, seed=3)
        off: dict[str, Any] = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0}
        assert alone(engine, prompt, temperature=1.0, seed=3, **off) == plain

    def test_top_k_bounds_the_choice(self, engine: EngineChild, prompt: list[int]) -> None:
        count = 60
        requests = [generation(prompt, 1, temperature=2.0, top_k=3, seed=seed) for seed in range(count)]
        seen = {tokens[0] for tokens, _ in engine.run(*requests).values()}
        assert len(seen) == (1 if is_echo(engine) else 3)

    def test_temperature_widens_the_choice(self, engine: EngineChild, prompt: list[int]) -> None:
        def seen(temperature: float) -> int:
            requests = [generation(prompt, 1, temperature=temperature, seed=seed) for seed in range(40)]
            return len({tokens[0] for tokens, _ in engine.run(*requests).values()})

        if is_echo(engine):
            assert seen(0.3) == seen(2.0) == 1
        else:
            assert seen(0.3) < 10 < seen(2.0)

    @pytest.mark.parametrize("name", ["presence_penalty", "frequency_penalty", "repetition_penalty"])
    def test_penalties_lessen_repetition(self, engine: EngineChild, prompt: list[int], name: str) -> None:
        plain = alone(engine, prompt, 40)
        settings: dict[str, Any] = {name: 2.0}
        penalised = alone(engine, prompt, 40, **settings)
        if is_echo(engine):
            assert penalised == plain
        else:
            assert len(set(penalised)) > len(set(plain))

    def test_frequency_counts_where_presence_does_not(self, engine: EngineChild, text_ids: list[int]) -> None:
        looping = text_ids[:6] * 8
        presence = alone(engine, looping, 40, presence_penalty=0.8)
        frequency = alone(engine, looping, 40, frequency_penalty=0.8)
        assert is_echo(engine) or len(set(frequency)) > len(set(presence))


class TestRefusals:
    def test_lengths(self, engine: EngineChild, prompt: list[int]) -> None:
        too_long = (prompt * 250)[: CONTEXT + 100]
        with pytest.raises(ContextLengthExceeded, match=str(len(too_long))) as refused:
            engine.add(generation(too_long))
        assert refused.value.hint
        with pytest.raises(ContextLengthExceeded):
            engine.add(generation(too_long[:CONTEXT], 1))
        with pytest.raises(ContextLengthExceeded):
            engine.add(generation(prompt, CONTEXT))
        with pytest.raises(RequestError, match="empty"):
            engine.add(generation([]))
        with pytest.raises(RequestError, match="max_tokens"):
            engine.add(generation(prompt, 0))

    def test_the_whole_context_can_be_used(self, engine: EngineChild, prompt: list[int]) -> None:
        request = generation((prompt * 100)[: CONTEXT - 4], 4)
        tokens, finish = engine.run(request)[request.id]
        assert (len(tokens), finish) == (4, "length")

    @pytest.mark.parametrize("wrong", [{"adapter": "sql"}, {"images": (b"",)}])
    def test_adapters_and_images_where_there_are_none(
        self, engine: EngineChild, prompt: list[int], wrong: dict[str, Any]
    ) -> None:
        with pytest.raises(RequestError):
            engine.add(msgspec.structs.replace(generation(prompt), **wrong))
        assert not engine.busy()

    def test_ids_outside_the_vocabulary(self, engine: EngineChild) -> None:
        if is_echo(engine):
            pytest.skip("the echo engine has no vocabulary")
        for wrong in (-1, 49_152, 2**40):
            with pytest.raises(RequestError, match="49151"):
                engine.add(generation([1, wrong, 2]))

    @pytest.mark.parametrize(
        "wrong",
        [
            {"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.5}, {"min_p": 1.5}, {"presence_penalty": 3.0},
            {"frequency_penalty": -3.0}, {"repetition_penalty": 0.0}, {"min_tokens": 99}, {"top_k": -7},
        ],
    )  # fmt: skip
    def test_values_out_of_range(self, engine: EngineChild, prompt: list[int], wrong: dict[str, Any]) -> None:
        if is_echo(engine):
            pytest.skip("the echo engine has nothing that a value could harm")
        with pytest.raises(RequestError, match=next(iter(wrong))) as refused:
            engine.add(generation(prompt, **{"temperature": 1.0, **wrong}))
        assert refused.value.hint
        assert len(alone(engine, prompt)) == 16


class TestPrefixCache:
    def test_a_repeated_prefix_gives_the_same_answer(self, engine: EngineChild, text_ids: list[int]) -> None:
        prompt = (text_ids * 2)[5:600]
        first = alone(engine, prompt)
        engine.add(request := generation(prompt))
        deltas = list(engine.steps())
        assert fold(deltas)[request.id][0] == first
        assert all(delta.cached <= len(prompt) for delta in deltas)


def is_echo(engine: EngineChild) -> bool:
    return engine.config.engine == "echo"
