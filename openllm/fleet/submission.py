"""One request as the fleet holds it: its sequences, who they are for, and how far they have come."""

from __future__ import annotations

from collections.abc import Callable

from openllm.engines.base import Delta, FinishReason, Generation
from openllm.errors import RunnerDied
from openllm.fleet.caller import Caller


class Submission:
    """Sequences that live and die together (the ``n`` choices of one request).

    ``deliver`` is called with each delta of theirs, on the event loop, and must not block. Times are seconds of the
    fleet's clock: ``dispatched_at`` when the runner got the first sequence, ``first_token_at`` when the first token
    came; with it a submission has started: it cannot be run again from the beginning.
    """

    __slots__ = (
        "caller",
        "deliver",
        "dispatched_at",
        "first_token_at",
        "generations",
        "open_ids",
        "retried",
        "sequences",
        "submitted_at",
    )

    def __init__(
        self,
        generations: list[Generation],
        deliver: Callable[[Delta], None],
        submitted_at: float,
        caller: Caller,
    ) -> None:
        self.generations = generations
        self.sequences = [Sequence(generation, self) for generation in generations]
        self.open_ids = {generation.id for generation in generations}
        self.deliver = deliver
        self.submitted_at = submitted_at
        self.caller = caller
        self.retried = False
        self.dispatched_at: float | None = None
        self.first_token_at: float | None = None

    @property
    def started(self) -> bool:
        return self.first_token_at is not None

    @property
    def answer_tokens(self) -> int:
        """Tokens that the engine has made so far."""
        return sum(sequence.tokens for sequence in self.sequences)

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompts, one that several sequences share counted once."""
        return sum({id(g.prompt): len(g.prompt) for g in self.generations}.values())

    def fail(self, message: str, kind: str = RunnerDied.__name__) -> None:
        """End every open sequence with an error; ``kind`` is its class in the error tree."""
        ended = sorted(self.open_ids)
        self.open_ids.clear()
        for request_id in ended:
            self.deliver(Delta(request_id, [], "error", 0, message, kind))


class Sequence:
    """One sequence of a submission. ``charged`` are the tokens that its caller was charged for it in advance;
    ``finish`` is why it ended, if it did."""

    __slots__ = ("charged", "finish", "generation", "id", "last_token_at", "submission", "tokens")

    def __init__(self, generation: Generation, submission: Submission) -> None:
        self.id = generation.id
        self.generation = generation
        self.submission = submission
        self.tokens = 0
        self.charged = 0.0
        self.finish: FinishReason | None = None
        self.last_token_at: float | None = None
