"""A key's limits on a clock that the test moves."""

from __future__ import annotations

import pytest

from openllm.api.account import Account, Limits
from openllm.errors import RateLimited


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def headers(account: Account) -> dict[str, str]:
    return {name.decode().removeprefix("x-ratelimit-"): value.decode() for name, value in account.headers()}


def test_requests_a_minute() -> None:
    clock = Clock()
    account = Account("a", Limits(requests_per_minute=3), clock)
    for _ in range(3):
        account.enter()
        account.leave()
    with pytest.raises(RateLimited, match="3 requests a minute") as caught:
        account.enter()
    assert caught.value.retry_after == pytest.approx(20.0)
    assert headers(account) == {"limit-requests": "3", "remaining-requests": "0", "reset-requests": "1m0s"}
    clock.now += 20
    account.enter()
    with pytest.raises(RateLimited):
        account.enter()
    clock.now += 3600
    assert headers(account)["remaining-requests"] == "3"
    assert headers(account)["reset-requests"] == "0s"


def test_requests_at_once() -> None:
    account = Account("a", Limits(concurrency=2), Clock())
    account.enter()
    account.enter()
    with pytest.raises(RateLimited, match="2 requests open"):
        account.enter()
    account.leave()
    account.enter()
    assert headers(account) == {}


def test_tokens_are_reserved_and_settled_with_what_was_used() -> None:
    clock = Clock()
    account = Account("a", Limits(tokens_per_minute=600), clock)
    account.enter()
    assert account.reserve(200) == 200
    assert headers(account)["remaining-tokens"] == "400"
    with pytest.raises(RateLimited, match="600 tokens a minute") as caught:
        account.reserve(500)
    assert caught.value.retry_after == pytest.approx(10.0)
    account.settle(200, 50)
    assert headers(account)["remaining-tokens"] == "550"
    assert headers(account)["reset-tokens"] == "5s"


def test_an_answer_longer_than_expected_is_owed_and_paid_by_waiting() -> None:
    clock = Clock()
    account = Account("a", Limits(tokens_per_minute=60), clock)
    account.enter()
    account.settle(account.reserve(30), 90)
    assert headers(account)["remaining-tokens"] == "0"
    with pytest.raises(RateLimited) as caught:
        account.enter()
    assert caught.value.retry_after == pytest.approx(31.0)
    clock.now += 31
    account.enter()


def test_a_request_larger_than_a_minutes_tokens_runs_when_all_are_there() -> None:
    clock = Clock()
    account = Account("a", Limits(tokens_per_minute=60), clock)
    assert account.reserve(1000) == 60
    with pytest.raises(RateLimited):
        account.reserve(1000)
    clock.now += 60
    assert account.reserve(1000) == 60


@pytest.mark.parametrize(("level", "reset"), [(59, "1s"), (60, "0s"), (0, "1m0s")])
def test_durations_are_gos(level: int, reset: str) -> None:
    account = Account("a", Limits(tokens_per_minute=60), Clock())
    account.settle(0, 60 - level)
    assert headers(account)["reset-tokens"] == reset


def test_short_durations_are_in_milliseconds() -> None:
    account = Account("a", Limits(tokens_per_minute=60_000), Clock())
    account.settle(0, 250)
    assert headers(account)["reset-tokens"] == "250ms"
