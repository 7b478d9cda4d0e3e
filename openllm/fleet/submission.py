"""One request as the fleet holds it: its sequences, who they are for, and how far they have come."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from openllm.engines.base import Delta, FinishReason, Generation
from openllm.engines.encoding import Encoding, Vector
from openllm.errors import RunnerDied
from openllm.fleet.caller import Caller

if TYPE_CHECKING:
    from openllm.fleet.post import Post


class Submission(ABC):
    """Sequences that live and die together: the ``n`` choices of one request, or its texts.

    ``deliver`` is called with each result of theirs, on the event loop, and must not block. Times are seconds of the
    fleet's clock: ``dispatched_at`` when the runner got the first sequence, ``first_token_at`` when the first token
    came; with it a submission has started: it cannot be run again from the beginning. ``deaths`` counts the runners
    that ended when nothing but this submission can have been the cause, ``losses`` those that ended in a row while they
    had it and brought nothing for it; ``brought`` is whether the runner of now has brought anything for it.
    """

    __slots__ = (
        "brought",
        "caller",
        "deaths",
        "deliver",
        "dispatched_at",
        "first_token_at",
        "losses",
        "open_ids",
        "sequences",
        "submitted_at",
    )

    def __init__(self, deliver: Callable[[Any], None], submitted_at: float, caller: Caller) -> None:
        self.sequences: list[Sequence] = []
        self.open_ids: set[int] = set()
        self.deliver = deliver
        self.submitted_at = submitted_at
        self.caller = caller
        self.deaths = self.losses = 0
        self.brought = False
        self.dispatched_at: float | None = None
        self.first_token_at: float | None = None

    @property
    def answer_tokens(self) -> int:
        """Tokens that the engine has made so far."""
        return sum(sequence.tokens for sequence in self.sequences)

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompts or texts, one that several sequences share counted once."""
        return sum({id(each.prompt): len(each.prompt) for each in self.sequences}.values())

    def fail(self, message: str, kind: str = RunnerDied.__name__) -> None:
        """End every open sequence with an error; ``kind`` is its class in the error tree."""
        ended = sorted(self.open_ids)
        self.open_ids.clear()
        for request_id in ended:
            self.deliver(self._failed(request_id, message, kind))

    @property
    @abstractmethod
    def repeatable(self) -> bool:
        """May what is open run again after the runner died?"""

    @abstractmethod
    def _failed(self, request_id: int, message: str, kind: str) -> object:
        """The result that ends a sequence with an error."""


class GenerationSubmission(Submission):
    """Sequences to be generated; ``deliver`` takes their deltas."""

    __slots__ = ("generations",)

    def __init__(
        self,
        generations: list[Generation],
        deliver: Callable[[Delta], None],
        submitted_at: float,
        caller: Caller,
    ) -> None:
        super().__init__(deliver, submitted_at, caller)
        self.generations = generations
        self.sequences = [
            Sequence(each, self, each.prompt, most_tokens=each.sampling.max_tokens, adapter=each.adapter)
            for each in generations
        ]
        self.open_ids = {each.id for each in generations}

    @property
    def repeatable(self) -> bool:
        """Only if nobody has seen a token yet."""
        return self.first_token_at is None

    def _failed(self, request_id: int, message: str, kind: str) -> Delta:
        return Delta(request_id, [], "error", 0, message, kind)


class EncodingSubmission(Submission):
    """Texts to be encoded; ``deliver`` takes their vectors, in any order."""

    __slots__ = ("ids",)

    def __init__(
        self,
        encodings: list[Encoding],
        deliver: Callable[[Vector], None],
        submitted_at: float,
        caller: Caller,
    ) -> None:
        """``ids`` are those of the texts, in order."""
        super().__init__(deliver, submitted_at, caller)
        self.ids = [each.id for each in encodings]
        self.sequences = [Sequence(each, self, each.ids, most_tokens=0) for each in encodings]
        self.open_ids = set(self.ids)

    @property
    def repeatable(self) -> bool:
        """Always: a text has no state."""
        return True

    def _failed(self, request_id: int, message: str, kind: str) -> Vector:
        return Vector(request_id, b"", message, kind)


class Sequence:
    """One sequence or text of a submission. ``prompt`` are the token ids that it brings, ``most_tokens`` how many the
    engine may add. ``post`` is where the runner is that has it, None while it waits. ``charged`` are the tokens that
    its caller was charged for it in advance; ``finish`` is why it ended, if it did."""

    __slots__ = (
        "adapter",
        "charged",
        "finish",
        "id",
        "last_token_at",
        "most_tokens",
        "post",
        "prompt",
        "request",
        "submission",
        "tokens",
    )

    def __init__(
        self,
        request: Generation | Encoding,
        submission: Submission,
        prompt: list[int],
        *,
        most_tokens: int,
        adapter: str = "",
    ) -> None:
        self.id = request.id
        self.request = request
        self.submission = submission
        self.prompt = prompt
        self.most_tokens = most_tokens
        self.adapter = adapter
        self.post: Post | None = None
        self.tokens = 0
        self.charged = 0.0
        self.finish: FinishReason | None = None
        self.last_token_at: float | None = None
