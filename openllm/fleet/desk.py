"""The submissions of one model: which wait, which the runner has, and what comes back for them."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from math import isfinite

from openllm.engines.base import Delta, FinishReason, Generation, Sampling
from openllm.engines.encoding import Encoding, Vector
from openllm.errors import AnswerLost, OpenLLMError, RunnerDied
from openllm.fleet.caller import ANYONE, Caller
from openllm.fleet.fair_queue import FairQueue
from openllm.fleet.garbage import Garbage
from openllm.fleet.observer import Observer
from openllm.fleet.pace import Pace
from openllm.fleet.room import Room
from openllm.fleet.submission import EncodingSubmission, GenerationSubmission, Sequence, Submission
from openllm.fleet.suspects import Suspects
from openllm.runner.wire import Abort, Add, Encode, ToRunner

Send = Callable[[ToRunner], None]
_LEARNING = 0.05  # weight of the latest answer in the average length of answers
_FIRST_GUESS = 128.0  # tokens of an answer, before there was one
_SHORTEST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 1.0, 60.0
_ANY_ID = 1 << 31


class Desk:
    """Hands sequences to the runner as it has room for them, and keeps the rest in a queue shared between callers.

    There is a runner between ``open`` and ``close``; without one everything waits. Background callers have a queue of
    their own, from which is taken only when nobody else waits. What a runner that died had, and had brought nothing
    for, goes to the next one first, one submission at a time (see ``Suspects``).

    ``vocabulary`` is above every token id that the engine may make. ``fruitful`` is whether the runner of now, or the
    last one, has brought anything. ``turned`` is called when the first sequence comes, when the last one has ended,
    with each that comes while there is no runner, and when a paused runner has none left.
    """

    def __init__(self, observer: Observer, clock: Callable[[], float]) -> None:
        self._observer = observer
        self._clock = clock
        self._next_id = 1  # 0 is the runner's own warm-up
        self._sequences: dict[int, Sequence] = {}  # every open one
        self._at_runner: set[int] = set()
        self._queue: FairQueue[Sequence] = FairQueue()
        self._background: FairQueue[Sequence] = FairQueue()
        self._suspects = Suspects()
        self._pace = Pace()
        self._usual_tokens = _FIRST_GUESS
        self._room = Room(0)
        self._send: Send | None = None
        self.turned: Callable[[], None] = _nobody
        self._paused = False
        self.vocabulary = _ANY_ID
        self.fruitful = False
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
            Generation(self._new_id(), prompt, sampling, adapter, images) for prompt, sampling in prompts
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
        encodings = [Encoding(self._new_id(), ids, second) for ids, second in texts]
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
        self.fruitful = False
        self.last_heard = self._clock()
        self._dispatch()

    def pause(self, paused: bool) -> None:
        """Give the runner no more sequences, or go on doing so; those that it has are answered."""
        self._paused = paused
        if not paused:
            self._dispatch()

    def close(self, message: str) -> bool:
        """The runner is gone: what may run again waits for that, the rest ends with ``message``.

        Returns whether one submission is to blame that will be tried again: that says little about the engine.
        """
        self._send = None
        self._paused = False
        lost = [self._sequences[i] for i in sorted(self._at_runner)]
        self._at_runner.clear()
        submissions = list(dict.fromkeys(sequence.submission for sequence in lost))
        guilty = self._suspects.blame(submissions)
        for submission in submissions:
            if not submission.repeatable:
                self._fail(submission, message, AnswerLost.__name__)
            elif submission is guilty and self._suspects.gives_up(submission):
                self._fail(submission, f"{message} {submission.deaths} times it had only this request.")
                guilty = None
            else:
                self._suspect(submission)
        return guilty is not None

    def fail_all(self, message: str) -> None:
        """End everything with an error."""
        for submission in dict.fromkeys(sequence.submission for sequence in self._sequences.values()):
            self._fail(submission, message)

    def receive(self, deltas: list[Delta]) -> None:
        """Deliver one step of the runner. The per-token path of the front begins here. Raises ``Garbage``."""
        now = self.last_heard = self._clock()
        observer = self._observer
        sequences = self._sequences
        count = 0
        ended = False
        at_runner = self._at_runner
        vocabulary = self.vocabulary
        for delta in deltas:
            sequence = sequences.get(delta.id)
            if sequence is None:
                self._check_known(delta.id)
                continue  # cancelled while it was on its way
            if delta.id not in at_runner:
                raise Garbage(f"tokens for sequence {delta.id}, which it has not got")
            submission = sequence.submission
            if delta.tokens:
                made = len(delta.tokens)
                if delta.tokens[0] >= vocabulary or (made > 1 and max(delta.tokens) >= vocabulary):
                    raise Garbage(f"the token {max(delta.tokens)}, where the vocabulary has {vocabulary}")
                count += made
                sequence.tokens += made
                last = sequence.last_token_at
                if last is None:
                    observer.first_token(now - submission.submitted_at)
                    if submission.first_token_at is None:
                        submission.first_token_at = now
                        ended |= self._suspects.remove(submission)
                else:
                    observer.next_token(now - last)
                sequence.last_token_at = now
            if delta.finish is not None:
                ended = True
                self._end(sequence, delta.finish)
            submission.deliver(delta)
        if count:
            self.fruitful = True
            observer.tokens(count)
        if ended:
            self._dispatch()

    def receive_vectors(self, vectors: list[Vector]) -> None:
        """Deliver one step of an encoder. Raises ``Garbage``."""
        self.last_heard = self._clock()
        for vector in vectors:
            sequence = self._sequences.get(vector.id)
            if sequence is None:
                self._check_known(vector.id)
                continue  # cancelled while it was on its way
            if vector.id not in self._at_runner:
                raise Garbage(f"a vector for text {vector.id}, which it has not got")
            if not vector.error:
                _check_numbers(vector)
                sequence.submission.brought = self.fruitful = True
            self._end(sequence, "error" if vector.error else "stop")
            sequence.submission.deliver(vector)
        if vectors:
            self._dispatch()

    def silent_since(self) -> float | None:
        """When the runner was heard last, or got work; None while it has none."""
        if self._send is None or not self._at_runner:
            return None
        return max(self.last_heard, self._busy_since)

    def silent_for(self) -> float:
        """Seconds since the runner was heard while it had work; 0 when it has none."""
        since = self.silent_since()
        return 0.0 if since is None else self._clock() - since

    def counts(self) -> tuple[int, int]:
        """(sequences without a token yet, sequences with one)."""
        running = sum(1 for sequence in self._sequences.values() if sequence.last_token_at is not None)
        return len(self._sequences) - running, running

    def queued(self, *, background: bool = False) -> int:
        """Sequences that wait here: of background callers, or of all others."""
        return len(self._background if background else self._queue) + self._suspects.waiting(background)

    @property
    def room(self) -> int:
        """Sequences that the last runner would take, had it none; 0 before there was one."""
        return self._room.live

    def free(self) -> int:
        """Sequences that the runner would take at once; 0 while there is none, or while others wait."""
        if self._send is None or self._paused or self._queue or self._suspects:
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

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

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
        if self._suspects:
            return self._suspects.pop() if at_runner < self._room.live else None
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
            self._take_back(sequence)
        if not submission.open_ids:
            self._suspects.remove(submission)
        self._tell_if_done()

    def _tell_if_done(self) -> None:
        if not self._sequences or (self._paused and not self._at_runner):
            self.turned()

    def _take_back(self, sequence: Sequence) -> None:
        """Out of where it waits, if it does."""
        caller = sequence.submission.caller
        if not self._queue_of(caller).discard(caller.name, sequence.id):
            self._suspects.discard(sequence)

    def _suspect(self, submission: Submission) -> None:
        """Have what is open of it wait for the next runner, apart from the others."""
        again = [sequence for sequence in submission.sequences if sequence.id in submission.open_ids]
        for sequence in again:
            self._take_back(sequence)
            self._charge(sequence, -sequence.charged)
        self._suspects.add(submission, again)

    def _check_known(self, request_id: int) -> None:
        if not 0 < request_id < self._next_id:
            raise Garbage(f"a result for {request_id}, which nobody has asked for")

    def _charge(self, sequence: Sequence, tokens: float) -> None:
        sequence.charged += tokens
        caller = sequence.submission.caller
        self._queue_of(caller).charge(caller.name, tokens)

    def _queue_of(self, caller: Caller) -> FairQueue[Sequence]:
        return self._background if caller.background else self._queue

    def _fail(self, submission: Submission, message: str, kind: str = RunnerDied.__name__) -> None:
        for sequence in submission.sequences:
            if sequence.id in submission.open_ids:
                self._take_back(sequence)
                self._at_runner.discard(sequence.id)
                sequence.finish = "error"
                del self._sequences[sequence.id]
                self._observer.finished("error")
        self._suspects.remove(submission)
        submission.fail(message, kind)
        self._tell_if_done()


def _nobody() -> None:
    """Whom to tell where nobody wants to know."""


def _check_numbers(vector: Vector) -> None:
    """Raise ``Garbage`` unless it is made of finite numbers."""
    try:
        # NaN and infinity survive a sum, and no sum of 32-bit floats is too large for one of 64.
        sound = bool(vector.values) and isfinite(sum(array("f", vector.values)))
    except ValueError:
        sound = False
    if not sound:
        raise Garbage(f"a vector of {len(vector.values)} bytes that is not made of numbers")
