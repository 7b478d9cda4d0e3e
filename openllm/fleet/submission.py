"""One request as the fleet holds it: its sequences, its mailbox, and how far it has come."""

from __future__ import annotations

from collections.abc import Callable

from openllm.engines.base import Delta, Generation
from openllm.errors import RunnerDied


class Submission:
    """Sequences that live and die together (the ``n`` choices of one request).

    ``deliver`` is called with each delta of theirs, on the event loop, and must not block.

    ``last_token_at`` holds, for each sequence that has one, when its latest token came (seconds of the fleet's
    clock). With the first token a submission has started: it cannot be run again from the beginning.
    """

    __slots__ = ("deliver", "generations", "last_token_at", "open_ids", "retried", "submitted_at")

    def __init__(
        self, generations: list[Generation], deliver: Callable[[Delta], None], submitted_at: float
    ) -> None:
        self.generations = generations
        self.open_ids = {generation.id for generation in generations}
        self.deliver = deliver
        self.submitted_at = submitted_at
        self.retried = False
        self.last_token_at: dict[int, float] = {}

    @property
    def started(self) -> bool:
        return bool(self.last_token_at)

    def fail(self, message: str) -> None:
        """End every open sequence with an error."""
        ended = sorted(self.open_ids)
        self.open_ids.clear()
        for request_id in ended:
            self.deliver(Delta(request_id, [], "error", 0, message, RunnerDied.__name__))
