"""Which models are loaded and whose turn comes: the decision itself, and traces replayed with it. No processes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.swaps import Machine, Request, letters, replay
from openllm.fleet.turns import Moves, Stage, Tenant, decide, fewest


def tenant(name: str, **fields: Any) -> Tenant:
    return Tenant(**{"name": name, "size": 1, "stage": "loaded", **fields})


def wanted(name: str, since: float = 0.0, **fields: Any) -> Tenant:
    return tenant(name, stage="asleep", wanted_since=since, **fields)


def decided(*tenants: Tenant, now: float = 100.0, budget: int = 2, patience: float = 10.0) -> Moves:
    return decide(tenants, now=now, budget=budget, patience=patience)


def busy(name: str, **fields: Any) -> Tenant:
    return tenant(name, **{"open": 1, "open_live": 1, **fields})


def test_what_is_wanted_takes_free_memory() -> None:
    assert decided(tenant("a"), wanted("b")).start == ("b",)


def test_nothing_wanted_nothing_done() -> None:
    assert decided(tenant("a"), tenant("b"), tenant("c", stage="asleep")) == Moves()


def test_the_one_used_longest_ago_makes_room() -> None:
    moves = decided(tenant("a", used_at=5), tenant("b", used_at=4), wanted("c"))
    assert moves == Moves(stop=("b",))


def test_what_is_leaving_is_waited_for() -> None:
    assert decided(tenant("a"), tenant("b", stage="leaving"), wanted("c")) == Moves()


def test_what_is_leaving_is_for_the_one_that_waited_longer() -> None:
    moves = decided(tenant("a", stage="leaving"), busy("b"), wanted("d", 99), wanted("c", 95))
    assert moves.start == moves.stop == moves.close == ()
    moves = decided(busy("b"), wanted("d", 99), wanted("c", 95))
    assert moves.start == ("c",)


def test_a_pinned_model_stays() -> None:
    moves = decided(tenant("a", used_at=1, pinned=True), tenant("b", used_at=2), wanted("c"))
    assert moves.stop == ("b",)


def test_a_busy_model_is_left_alone_until_patience_ends() -> None:
    assert decided(busy("a"), busy("b"), wanted("c", 95.0)) == Moves(again=105.0)


def test_then_it_takes_nothing_new_and_is_not_stopped_while_it_answers() -> None:
    moves = decided(busy("a", used_at=2), busy("b", used_at=1), wanted("c", 90.0))
    assert moves == Moves(close=("b",))
    moves = decided(busy("a"), tenant("b", closed=True, wanted_since=91.0), wanted("c", 90.0))
    assert moves.stop == ("b",)


def test_one_that_was_closed_stays_so_though_another_has_a_moments_pause() -> None:
    pausing = busy("a", open=0, open_live=0, used_at=99.9, loading=5.0)
    closed = busy("b", used_at=100.0, closed=True)
    assert decided(pausing, closed, wanted("c", since=80)).close == ("b",)


def test_it_is_open_again_when_nobody_waits_any_more() -> None:
    assert decided(busy("a"), busy("b", closed=True)).close == ()


def test_a_model_serves_at_least_as_long_as_it_took_to_load() -> None:
    a, b = (busy(name, loaded_at=95.0, loading=20.0) for name in "ab")
    assert decided(a, b, wanted("c", 50.0)) == Moves(again=115.0)


def test_background_work_makes_room_at_once_and_never_pushes() -> None:
    assert decided(busy("a"), busy("b", open_live=0), wanted("c", 99.0)).close == ("b",)
    assert decided(busy("a"), busy("b"), wanted("c", 0.0, wanted_live=False)) == Moves()
    assert decided(busy("a"), wanted("c", 0.0, wanted_live=False), wanted("d", 99.0)).start == ("d",)


def test_one_that_waits_for_busy_models_does_not_keep_a_smaller_one_out() -> None:
    moves = decided(busy("a", size=2), wanted("big", 95.0, size=2), wanted("small", 96.0), budget=3)
    assert moves.start == ("small",)


def test_one_that_grew_beyond_the_budget_has_it_to_itself() -> None:
    assert decided(wanted("a", size=5)).start == ("a",)
    assert decided(tenant("b"), wanted("a", size=5)).stop == ("b",)
    assert decided(tenant("a", size=5)) == Moves()


def test_models_that_grew_together_beyond_the_budget_lose_one() -> None:
    assert decided(tenant("a", size=2, used_at=1), tenant("b", used_at=2)).stop == ("a",)
    assert decided(busy("a", size=2), busy("b", size=2)) == Moves()


def test_no_more_than_needed_are_unloaded() -> None:
    small, large = tenant("small", size=1), tenant("large", size=3)
    assert fewest([small, large], 3) == [large]
    assert fewest([small, large], 4) == [small, large]
    assert fewest([small, large], 5) is None
    assert fewest([small], 0) == []


_STAGES: tuple[Stage, ...] = ("asleep", "loading", "loaded", "leaving")
STAGES = st.sampled_from(_STAGES)


@st.composite
def tenants(draw: st.DrawFn) -> list[Tenant]:
    made = []
    for name in "abcdef"[: draw(st.integers(1, 6))]:
        stage = draw(STAGES)
        held = draw(st.integers(0, 3)) if stage == "loaded" else 0
        made.append(
            Tenant(
                name=name,
                size=draw(st.integers(1, 5)),
                stage=stage,
                open=held,
                open_live=draw(st.integers(0, held)),
                wanted_since=draw(st.none() | st.floats(0, 100)),
                wanted_live=draw(st.booleans()),
                used_at=draw(st.floats(0, 100)),
                loaded_at=draw(st.floats(0, 100)),
                loading=draw(st.floats(0, 10)),
                closed=draw(st.booleans()),
            )
        )
    return made


@given(tenants(), st.integers(1, 12), st.floats(0, 50))
def test_whatever_is_there_no_rule_is_broken(made: list[Tenant], budget: int, patience: float) -> None:
    moves = decide(made, now=100.0, budget=budget, patience=patience)
    by_name = {each.name: each for each in made}
    for name in moves.stop:
        assert by_name[name].stage == "loaded"
        assert not by_name[name].open, "an answer was harmed"
    for name in moves.close:
        assert by_name[name].open
    for name in moves.start:
        assert by_name[name].stage == "asleep"
        assert by_name[name].wanted_since is not None
    held = [each for each in made if each.stage != "asleep"]
    started = [by_name[name] for name in moves.start]
    if started and (held or len(started) > 1):
        sizes = [each.size for each in held] + [min(each.size, budget) for each in started]
        assert sum(sizes) <= budget
    assert not (set(moves.stop) & set(moves.close))
    assert moves.again is None or moves.again > 100.0


def test_the_fewest_loads_there_can_be() -> None:
    trace = letters("A B A A C A B C", 0.0)
    ours = replay(trace, Machine(budget=2), patience=10.0)
    assert [name for _, name in ours.loads] == ["A", "B", "C"]  # each once: less cannot be
    assert ours.harmed == 0
    assert len(replay(trace, Machine(budget=2), patience=10.0, in_order=True).loads) == 5


def test_with_room_for_all_each_is_loaded_once() -> None:
    assert len(replay(letters("A B A A C A B C", 1.0), Machine(budget=3), patience=10.0).loads) == 3


def test_a_model_that_is_asked_for_without_end_does_not_starve_another() -> None:
    flood = [Request(number * 0.1, "A", 1.0) for number in range(1000)]
    trace = sorted([*flood, Request(20.0, "B", 1.0)])
    machine = Machine(budget=1, load=5.0, unload=0.2)
    waits = dict(zip(trace, replay(trace, machine, patience=10.0).waits, strict=True))
    # Patience, then A's last answer, its end, and B's load.
    assert waits[Request(20.0, "B", 1.0)] == pytest.approx(10.0 + 1.0 + 0.2 + 5.0, abs=0.2)


REQUESTS = st.lists(
    st.builds(Request, st.floats(0, 60), st.sampled_from("ABCD"), st.floats(0.1, 3)), min_size=1, max_size=60
).map(sorted)


@given(REQUESTS, st.integers(1, 3), st.floats(0, 15), st.floats(0, 8))
def test_any_trace_is_answered_without_harm_and_within_bounds(
    trace: list[Request], budget: int, patience: float, load: float
) -> None:
    machine = Machine(budget=budget, load=load, unload=0.2, width=2)
    ours = replay(trace, machine, patience=patience)  # fails if a request is never answered
    assert ours.harmed == 0
    assert ours.most_held <= budget
    # A model is never loaded more often than it is asked for.
    for model in {each.model for each in trace}:
        assert sum(name == model for _, name in ours.loads) <= sum(each.model == model for each in trace)


def test_a_model_that_rests_for_a_moment_only_is_kept() -> None:
    a, b = (tenant(name, used_at=99.9, loading=5.0) for name in "ab")
    moves = decided(a, b, wanted("c", 99.0))
    assert moves.stop == ()
    assert moves.again == pytest.approx(100.2)
    assert decided(a, b, wanted("c", 99.0), now=100.3).stop == ("a",)
    assert decided(a, b, wanted("c", 80.0)).stop == ("a",)  # it has waited long enough
