"""One request as the fleet holds it: its sequences, its mailbox, and how far it has come."""

from __future__ import annotations

from collections.abc import Callable

from openllm.engines.base import Delta, Generation
from openllm.engines.encoding import Encoding, Vector
from openllm.errors import RunnerDied
from openllm.runner.wire import Add, Encode, ToRunner


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

    def message(self) -> ToRunner:
        """What asks a runner for the open sequences."""
        return Add([each for each in self.generations if each.id in self.open_ids])

    def fail(self, message: str) -> None:
        """End every open sequence with an error."""
        ended = sorted(self.open_ids)
        self.open_ids.clear()
        for request_id in ended:
            self.deliver(Delta(request_id, [], "error", 0, message, RunnerDied.__name__))


class EncodingSubmission(Submission):
    """Texts that are encoded together; ``ids`` are theirs, in order. It never starts: texts that have no vector yet
    can always run again."""

    __slots__ = ("_encodings", "_take", "ids")

    def __init__(
        self, encodings: list[Encoding], deliver: Callable[[Vector], None], submitted_at: float
    ) -> None:
        super().__init__([], _no_delta, submitted_at)
        self.ids = [encoding.id for encoding in encodings]
        self.open_ids = set(self.ids)
        self._encodings = encodings
        self._take = deliver

    def message(self) -> ToRunner:
        return Encode([each for each in self._encodings if each.id in self.open_ids])

    def take(self, vector: Vector) -> None:
        """Deliver a vector."""
        self._take(vector)

    def fail(self, message: str) -> None:
        ended = sorted(self.open_ids)
        self.open_ids.clear()
        for request_id in ended:
            self._take(Vector(request_id, b"", message, RunnerDied.__name__))


def _no_delta(_: Delta) -> None:
    raise AssertionError("an encoder sends no deltas")
