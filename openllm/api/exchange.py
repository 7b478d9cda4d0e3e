"""One request and its answer, as the layers around the routes know it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import TypeVar

from openllm.api.account import Account
from openllm.api.caller import ANYONE, CALLER, Caller
from openllm.engines.base import Delta, Sampling
from openllm.engines.encoding import Vector
from openllm.errors import DeadlineExceeded
from openllm.fleet.desk import Desk
from openllm.fleet.submission import EncodingSubmission, GenerationSubmission, Submission

Prompts = Sequence[tuple[list[int], Sampling]]
S = TypeVar("S", bound=Submission)


class Exchange:
    """Times are seconds of ``time.monotonic``, the fleet's clock, but ``began_at``, which is since 1970.

    ``model`` is the model that it is for, once that is known. ``account`` is that of a key with limits; ``seconds`` is
    how long the request may take, None if for ever.
    What runs longer than the request, a batch that it began, is no part of it.
    """

    __slots__ = (
        "account",
        "began",
        "began_at",
        "caller",
        "client",
        "ended",
        "headers",
        "id",
        "method",
        "model",
        "path",
        "reserved",
        "route",
        "seconds",
        "status",
        "submissions",
        "timers",
    )

    def __init__(self, request_id: str, method: str, path: str) -> None:
        self.id = request_id
        self.method = method
        self.path = path
        self.began = time.monotonic()
        self.began_at = time.time()
        self.ended: float | None = None
        self.headers: list[tuple[bytes, bytes]] = []
        self.client = ""
        self.route = ""
        self.model = ""
        self.status = 0
        self.caller: Caller = ANYONE
        self.account: Account | None = None
        self.reserved = 0.0
        self.seconds: float | None = None
        self.submissions: list[Submission] = []
        self.timers: list[asyncio.TimerHandle] = []

    def left(self) -> float | None:
        """Seconds that the request may still take, None if for ever."""
        return None if self.seconds is None else max(0.0, self.began + self.seconds - time.monotonic())

    def late(self) -> DeadlineExceeded:
        """The error of a request that has taken too long."""
        return DeadlineExceeded(
            f"The answer was not complete within the {self.seconds:g} s that it may take."
        )

    def submit(self, desk: Desk, tokens: float, begin: Callable[[Caller], S]) -> S:
        """Make a submission this request's: it counts against its key's limits and ends with its deadline.

        It is expected to use so many ``tokens``; ``begin`` makes it. Raises ``RateLimited``.
        """
        if self.account is not None:
            self.reserved += self.account.reserve(tokens)
        submission = begin(self.caller)
        self.submissions.append(submission)
        left = self.left()
        if left is not None:
            loop = asyncio.get_running_loop()
            self.timers.append(loop.call_later(left, self._expire, desk, submission))
        return submission

    def lost(self) -> None:
        """What was submitted is lost, and will be submitted again: nothing of it counts."""
        self.submissions.clear()
        if self.account is not None:
            self.account.settle(self.reserved, 0)
            self.reserved = 0.0

    def used(self) -> tuple[int, int]:
        """(tokens of prompts, tokens of answers) so far."""
        prompts = sum(submission.prompt_tokens for submission in self.submissions)
        return prompts, sum(submission.answer_tokens for submission in self.submissions)

    def end(self) -> None:
        """Nothing more belongs to this request. Settles with the account."""
        self.ended = time.monotonic()
        for timer in self.timers:
            timer.cancel()
        if self.account is not None:
            self.account.settle(self.reserved, sum(self.used()))

    def _expire(self, desk: Desk, submission: Submission) -> None:
        if submission.open_ids:
            desk.expire(submission, self.late())


EXCHANGE: ContextVar[Exchange | None] = ContextVar("exchange", default=None)
"""The exchange that this task serves; None outside a request, and in work that a request left behind."""


def submit(
    desk: Desk,
    prompts: Prompts,
    deliver: Callable[[Delta], None],
    *,
    adapter: str = "",
    images: tuple[bytes, ...] = (),
) -> GenerationSubmission:
    """Submit sequences for whoever this task works for. Raises ``RateLimited``."""
    shared = {id(prompt): len(prompt) for prompt, _ in prompts}
    expected = sum(desk.expected_tokens(sampling.max_tokens) for _, sampling in prompts)
    return _submit(
        desk,
        sum(shared.values()) + expected,
        lambda caller: desk.submit(prompts, deliver, caller, adapter=adapter, images=images),
    )


def submit_encodings(
    desk: Desk, texts: Sequence[tuple[list[int], int]], deliver: Callable[[Vector], None]
) -> EncodingSubmission:
    """As ``submit``, for texts to be encoded: see ``Desk.submit_encodings``."""
    tokens = sum(len(ids) for ids, _ in texts)
    return _submit(desk, tokens, lambda caller: desk.submit_encodings(texts, deliver, caller))


def _submit(desk: Desk, tokens: float, begin: Callable[[Caller], S]) -> S:
    caller, exchange = CALLER.get(), EXCHANGE.get()
    if exchange is None or exchange.ended is not None or caller.background:
        return begin(caller)
    return exchange.submit(desk, tokens, begin)
