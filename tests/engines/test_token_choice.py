"""Tokens chosen by filters and by chance: what the definitions allow, as often as the probabilities say."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from tests.engines.child import Child
from tests.engines.choices import Choices


@pytest.fixture(scope="module")
def choices() -> Iterator[Child]:
    if find_spec("torch") is None or find_spec("llguidance") is None:
        pytest.skip("torch is not installed")
    child = Child(Choices)
    yield child
    child.close()


@pytest.mark.parametrize(
    "filters",
    [
        {"top_k": 7}, {"top_p": 0.5}, {"min_p": 0.2}, {"top_k": 20, "top_p": 0.7}, {"top_p": 0.6, "min_p": 0.05},
        {"top_k": 9, "min_p": 0.3, "top_p": 0.8}, {"top_k": 30, "temperature": 3.0},
    ],
    ids=str,
)  # fmt: skip
def test_what_filters_leave_is_drawn_and_nothing_else(choices: Child, filters: dict[str, Any]) -> None:
    settings = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, **filters}
    allowed = choices.ask(
        Choices.allowed, *(settings[name] for name in ("temperature", "top_k", "top_p", "min_p"))
    )
    drawn = choices.ask(_drawn, 4000, settings)
    assert set(drawn) <= allowed
    assert len(drawn) >= 0.9 * min(len(allowed), 40)


def test_a_wide_nucleus_reaches_beyond_the_candidates(choices: Child) -> None:
    """So hot that most tokens are in it: more than are sorted at first."""
    allowed = choices.ask(Choices.allowed, 8.0, 0, 0.9, 0.0)
    drawn = choices.ask(_drawn, 5000, {"temperature": 8.0, "top_p": 0.9})
    assert set(drawn) <= allowed
    assert len(drawn) > 1500


def test_as_often_as_they_are_likely(choices: Child) -> None:
    count = 5000
    drawn = choices.ask(_drawn, count, {"temperature": 1.0})
    for token, likely in enumerate(choices.ask(Choices.probabilities)):
        if likely > 0.01:
            assert abs(drawn[token] / count - likely) < 5 * (likely / count) ** 0.5


def _drawn(choices: Choices, count: int, settings: dict[str, Any]) -> Any:
    return choices.drawn(count, **settings)
