"""What one API key has used of its limits, and what is left."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from openllm.api.bucket import Bucket
from openllm.errors import RateLimited

Header = tuple[bytes, bytes]


class Limits(msgspec.Struct, frozen=True):
    """Of one key; None is no limit. ``concurrency`` counts requests that are being answered, ``tokens_per_minute``
    those of prompts and answers."""

    concurrency: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


class Account:
    """Counts against ``limits``. A request enters, reserves tokens when its prompt is known, and leaves."""

    def __init__(self, name: str, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._name = name
        self._clock = clock
        self._open = 0
        now = clock()
        self._requests = _bucket(limits.requests_per_minute, now)
        self._tokens = _bucket(limits.tokens_per_minute, now)

    def enter(self) -> None:
        """Take in a request. Raises ``RateLimited``; then nothing was counted."""
        now = self._clock()
        most = self.limits.concurrency
        if most is not None and self._open >= most:
            raise RateLimited(
                f"The key {self._name!r} has {self._open} requests open, its limit is {most}.",
                hint="Wait for one to end.",
                retry_after=1.0,
            )
        if self._requests is not None:
            self._refuse_over(self._requests, 1.0, "requests", now)
        if self._tokens is not None:
            # What the prompt needs is not known yet; while tokens are owed none can be had.
            self._refuse_over(self._tokens, 1.0, "tokens", now)
        self._open += 1
        if self._requests is not None:
            self._requests.take(1.0, now)

    def leave(self) -> None:
        """The request is over."""
        self._open -= 1

    def reserve(self, tokens: float) -> float:
        """Take the tokens that a request is expected to need; returns how many were taken. Raises ``RateLimited``.

        A request that needs more than a minute's may run when all of them are there.
        """
        if self._tokens is None:
            return 0.0
        now = self._clock()
        wanted = min(tokens, self._tokens.per_minute)
        self._refuse_over(self._tokens, wanted, "tokens", now)
        self._tokens.take(wanted, now)
        return wanted

    def settle(self, reserved: float, used: int) -> None:
        """Count what was used in place of what was reserved."""
        if self._tokens is not None:
            self._tokens.take(used - reserved, self._clock())

    def headers(self) -> list[Header]:
        """``x-ratelimit-*`` as OpenAI's API has them: the limit, what is left, and when all of it is back."""
        now = self._clock()
        found: list[Header] = []
        for kind, bucket in ((b"requests", self._requests), (b"tokens", self._tokens)):
            if bucket is not None:
                left = max(0, int(bucket.level(now)))
                reset = _duration(bucket.wait(bucket.per_minute, now))
                found.append((b"x-ratelimit-limit-" + kind, b"%d" % bucket.per_minute))
                found.append((b"x-ratelimit-remaining-" + kind, b"%d" % left))
                found.append((b"x-ratelimit-reset-" + kind, reset.encode()))
        return found

    def _refuse_over(self, bucket: Bucket, amount: float, kind: str, now: float) -> None:
        wait = bucket.wait(amount, now)
        if wait > 0:
            raise RateLimited(
                f"The key {self._name!r} has reached its limit of {bucket.per_minute} {kind} a minute.",
                hint=f"Try again in {_duration(wait)}.",
                retry_after=wait,
            )


def _bucket(per_minute: int | None, now: float) -> Bucket | None:
    return None if per_minute is None else Bucket(per_minute, now)


def _duration(seconds: float) -> str:
    """As Go prints durations, which is what clients of OpenAI's API parse: 1m30s, 6s, 120ms, 0s."""
    if 0 < seconds < 1:
        return f"{max(1, round(seconds * 1000))}ms"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
