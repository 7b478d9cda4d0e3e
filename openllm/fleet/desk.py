"""The submissions of one model: which wait, which the runner has, and what comes back for them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

from openllm.engines.base import Delta, FinishReason, Generation, Sampling
from openllm.engines.encoding import Encoding, Vector
from openllm.errors import OpenLLMError, RunnerDied
from openllm.fleet.caller import ANYONE, Caller
from openllm.fleet.fair_queue import FairQueue
from openllm.fleet.observer import Observer
from openllm.fleet.pace import Pace
from openllm.fleet.room import Room
from openllm.fleet.submission import EncodingSubmission, GenerationSubmission, Sequence, Submission
from openllm.runner.wire import Abort, Add, Encode, ToRunner

Send = Callable[[ToRunner], None]
_LEARNING = 0.05  # weight of the latest answer in the average length of answers
_FIRST_GUESS = 128.0  # tokens of an answer, before there was one
_SHORTEST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 1.0, 60.0


class Desk:
    """Hands sequences to the runner as it has room for them, and keeps the rest in a queue shared between callers.

    There is a runner between ``open`` and ``close``; without one everything waits. Background callers have a queue of
    their own, from which is taken only when nobody else waits. ``turned`` is called when the first sequence comes, when
    the last one has ended, with each that comes while there is no runner, and when a paused runner has none left.
    """

    def __init__(self, observer: Observer, clock: Callable[[], float]) -> None:
        self._observer = observer
        self._clock = clock
        self._ids = itertools.count(1)  # 0 is the runner's own warm-up
        self._sequences: dict[int, Sequence] = {}  # every open one
        self._at_runner: set[int] = set()
        self._queue: FairQueue[Sequence] = FairQueue()
        self._background: FairQueue[Sequence] = FairQueue()
        self._pace = Pace()
        self._usual_tokens = _FIRST_GUESS
        self._room = Room(0)
        self._send: Send | None = None
        self.turned: Callable[[], None] = _nobody
        self._paused = False
        self._busy_since = self.last_heard = clock()

    def submit(
        self,
        prompts: Iterable[tuple[list[int], Sampling]],
        deliver: Callable[[Delta], None],
        caller: Caller = ANYONE,
        *,
        adapter: str = "",
        images: tuple[bytes, ...] = (),
    ) -> GenerationSubmission:
        """Take in sequences that belong together; they run when a runner has room and it is their caller's turn.

        ``deliver`` gets their deltas, the first one after this has returned.
        """
        generations = [
            Generation(next(self._ids), prompt, sampling, adapter, images) for prompt, sampling in prompts
        ]
        submission = GenerationSubmission(generations, deliver, self._clock(), caller)
        self._take_in(submission)
        return submission

    def submit_encodings(
        self,
        texts: Iterable[tuple[list[int], int]],
        deliver: Callable[[Vector], None],
        caller: Caller = ANYONE,
    ) -> EncodingSubmission:
        """As ``submit``, for texts to be encoded, each with where its second one begins (see ``Encoding``).

        ``deliver`` gets a vector for each, in any order, the first one after this has returned.
        """
        encodings = [Encoding(next(self._ids), ids, second) for ids, second in texts]
        submission = EncodingSubmission(encodings, deliver, self._clock(), caller)
        self._take_in(submission)
        return submission

    def cancel(
        self, submission: Submission, ids: Iterable[int] | None = None, reason: FinishReason = "abort"
    ) -> None:
        """Forget a submission, or some of its sequences, here and in the runner. Nothing more is delivered."""
        gone = [i for i in (submission.open_ids if ids is None else ids) if i in submission.open_ids]
        known = [i for i in gone if i in self._at_runner]
        for request_id in gone:
            self._end(self._sequences[request_id], reason)
        self._abort(known)

    def expire(self, submission: Submission, error: OpenLLMError) -> None:
        """End a submission with ``error``, and stop it in the runner."""
        known = [i for i in submission.open_ids if i in self._at_runner]
        self._fail(submission, error.message, type(error).__name__)
        self._abort(known)

    def open(self, send: Send, width: int) -> None:
        """A runner is ready whose engine runs at most ``width`` sequences at once: pass on what waits."""
        self._send = send
        self._room = Room(width)
        self.last_heard = self._clock()
        self._dispatch()

    def pause(self, paused: bool) -> None:
        """Give the runner no more sequences, or go on doing so; those that it has are answered."""
        self._paused = paused
        if not paused:
            self._dispatch()

    def close(self, message: str) -> None:
        """The runner is gone: what may run again waits for that, the rest ends with ``message``."""
        self._send = None
        self._paused = False
        lost = [self._sequences[i] for i in sorted(self._at_runner, reverse=True)]
        self._at_runner.clear()
        again = {s.submission for s in lost if s.submission.repeatable}
        for sequence in lost:
            submission = sequence.submission
            if submission in again:
                submission.retried = True
                self._charge(sequence, -sequence.charged)
                caller = submission.caller
                self._queue_of(caller).push(caller.name, sequence.id, sequence, first=True)
            elif submission.open_ids:
                self._fail(submission, message)

    def fail_all(self, message: str) -> None:
        """End everything with an error."""
        for submission in dict.fromkeys(sequence.submission for sequence in self._sequences.values()):
            self._fail(submission, message)

    def receive(self, deltas: list[Delta]) -> None:
        """Deliver one step of the runner. The per-token path of the front begins here."""
        now = self.last_heard = self._clock()
        observer = self._observer
        sequences = self._sequences
        count = 0
        ended = False
        for delta in deltas:
            sequence = sequences.get(delta.id)
            if sequence is None:
                continue  # cancelled while it was on its way
            submission = sequence.submission
            if delta.tokens:
                made = len(delta.tokens)
                count += made
                sequence.tokens += made
                last = sequence.last_token_at
                if last is None:
                    observer.first_token(now - submission.submitted_at)
                    if submission.first_token_at is None:
                        submission.first_token_at = now
                else:
                    observer.next_token(now - last)
                sequence.last_token_at = now
            if delta.finish is not None:
                ended = True
                self._end(sequence, delta.finish)
            submission.deliver(delta)
        if count:
            observer.tokens(count)
        if ended:
            self._dispatch()

    def receive_vectors(self, vectors: list[Vector]) -> None:
        """Deliver one step of an encoder."""
        self.last_heard = self._clock()
        for vector in vectors:
            sequence = self._sequences.get(vector.id)
            if sequence is None:
                continue  # cancelled while it was on its way
            self._end(sequence, "error" if vector.error else "stop")
            sequence.submission.deliver(vector)
        if vectors:
            self._dispatch()

    def silent_for(self) -> float:
        """Seconds since the runner was heard while it had work; 0 when it has none."""
        if self._send is None or not self._at_runner:
            return 0.0
        return self._clock() - max(self.last_heard, self._busy_since)

    def counts(self) -> tuple[int, int]:
        """(sequences without a token yet, sequences with one)."""
        running = sum(1 for sequence in self._sequences.values() if sequence.last_token_at is not None)
        return len(self._sequences) - running, running

    def queued(self, *, background: bool = False) -> int:
        """Sequences that wait here: of background callers, or of all others."""
        return len(self._background if background else self._queue)

    def free(self) -> int:
        """Sequences that the runner would take at once; 0 while there is none, or while others wait."""
        if self._send is None or self._paused or self._queue:
            return 0
        return max(0, self._room.live - len(self._at_runner))

    def retry_after(self) -> float:
        """Seconds until what waits now should have had its turn, judged by how fast sequences ended of late."""
        seconds = self._pace.seconds_for(len(self._queue), self._clock()) or _SHORTEST_RETRY_SECONDS
        return min(_LONGEST_RETRY_SECONDS, max(_SHORTEST_RETRY_SECONDS, seconds))

    def expected_tokens(self, most: int) -> float:
        """How long an answer of at most ``most`` tokens will be, judged by those before it."""
        return min(most, self._usual_tokens)

    @property
    def at_runner(self) -> int:
        """Sequences that the runner has."""
        return len(self._at_runner)

    @property
    def live_at_runner(self) -> int:
        """As ``at_runner``, without background work."""
        return sum(not self._sequences[i].submission.caller.background for i in self._at_runner)

    def oldest(self) -> tuple[float, bool] | None:
        """When the oldest live sequence came, and True; that of background work, and False, where nothing else is
        open; None where nothing is."""
        background: float | None = None
        for sequence in self._sequences.values():  # in the order in which they came
            submission = sequence.submission
            if not submission.caller.background:
                return submission.submitted_at, True
            background = submission.submitted_at if background is None else background
        return None if background is None else (background, False)

    def answering(self, adapter: str) -> int:
        """Open sequences of a LoRA adapter."""
        return sum(sequence.adapter == adapter for sequence in self._sequences.values())

    def __len__(self) -> int:
        """Open sequences."""
        return len(self._sequences)

    def _take_in(self, submission: Submission) -> None:
        caller = submission.caller
        queue = self._queue_of(caller)
        first = not self._sequences
        for sequence in submission.sequences:
            self._sequences[sequence.id] = sequence
            queue.push(caller.name, sequence.id, sequence)
        if first or self._send is None:
            self.turned()
        self._dispatch()

    def _dispatch(self) -> None:
        """Send the runner as many sequences as it has room for."""
        if self._send is None or self._paused:
            return
        generations: list[Generation] = []
        encodings: list[Encoding] = []
        while (sequence := self._next()) is not None:
            if not self._at_runner:
                self._busy_since = self._clock()
            self._at_runner.add(sequence.id)
            if sequence.submission.dispatched_at is None:
                sequence.submission.dispatched_at = self._clock()
            self._charge(sequence, len(sequence.prompt) + self.expected_tokens(sequence.most_tokens))
            request = sequence.request
            if isinstance(request, Generation):
                generations.append(request)
            else:
                encodings.append(request)
        if generations:
            self._send(Add(generations))
        if encodings:
            self._send(Encode(encodings))

    def _abort(self, known: list[int]) -> None:
        """Stop sequences that the runner has, and give it others in their place."""
        if known and self._send is not None:
            self._send(Abort(known))
            self._dispatch()

    def _next(self) -> Sequence | None:
        at_runner = len(self._at_runner)
        if self._queue:
            return self._queue.pop() if at_runner < self._room.live else None
        if self._background and at_runner < self._room.background:
            return self._background.pop()
        return None

    def _end(self, sequence: Sequence, reason: FinishReason) -> None:
        """Forget one sequence, and settle what its caller was charged for it."""
        submission = sequence.submission
        del self._sequences[sequence.id]
        submission.open_ids.discard(sequence.id)
        sequence.finish = reason
        self._observer.finished(reason)
        if sequence.id in self._at_runner:
            self._at_runner.discard(sequence.id)
            self._pace.ended(self._clock())
            self._charge(sequence, len(sequence.prompt) + sequence.tokens - sequence.charged)
            if reason in ("stop", "length"):
                self._usual_tokens += _LEARNING * (sequence.tokens - self._usual_tokens)
        else:
            self._queue_of(submission.caller).discard(submission.caller.name, sequence.id)
        self._tell_if_done()

    def _tell_if_done(self) -> None:
        if not self._sequences or (self._paused and not self._at_runner):
            self.turned()

    def _charge(self, sequence: Sequence, tokens: float) -> None:
        sequence.charged += tokens
        caller = sequence.submission.caller
        self._queue_of(caller).charge(caller.name, tokens)

    def _queue_of(self, caller: Caller) -> FairQueue[Sequence]:
        return self._background if caller.background else self._queue

    def _fail(self, submission: Submission, message: str, kind: str = RunnerDied.__name__) -> None:
        for sequence in submission.sequences:
            if sequence.id in submission.open_ids:
                self._queue_of(submission.caller).discard(submission.caller.name, sequence.id)
                self._at_runner.discard(sequence.id)
                sequence.finish = "error"
                del self._sequences[sequence.id]
                self._observer.finished("error")
        submission.fail(message, kind)
        self._tell_if_done()


def _nobody() -> None:
    """Whom to tell where nobody wants to know."""
