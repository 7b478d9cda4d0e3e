"""The submissions of one model: which wait, which its runners have, and what comes back for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from openllm.engines.base import Delta, FinishReason, Generation, Sampling
from openllm.engines.encoding import Encoding, Vector
from openllm.errors import AnswerLost, OpenLLMError, RunnerDied
from openllm.fleet.caller import ANYONE, Caller
from openllm.fleet.fair_queue import FairQueue
from openllm.fleet.garbage import Garbage, check_numbers
from openllm.fleet.observer import Observer
from openllm.fleet.pace import Pace
from openllm.fleet.post import Post, Posts, Send
from openllm.fleet.submission import EncodingSubmission, GenerationSubmission, Sequence, Submission
from openllm.fleet.suspects import Suspects
from openllm.runner.wire import Abort

_LEARNING = 0.05  # weight of the latest answer in the average length of answers
_FIRST_GUESS = 128.0  # tokens of an answer, before there was one
_SHORTEST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 1.0, 60.0
_ANY_ID = 1 << 31


class Desk:
    """Hands sequences to runners as they have room for them, and keeps the rest in a queue shared between callers.

    A model has a runner for each of its ``replicas``, which are counted from 0. There is one between ``open`` and
    ``close``; without any, everything waits. Background callers have a queue of their own, from which is taken only
    when nobody else waits. What a runner that died had, and had brought nothing for, goes to another one first, one
    submission at a time (see ``Suspects``).

    ``vocabulary`` is above every token id that the engine may make. ``turned`` is called when the first sequence comes,
    when the last one has ended, with each that comes while there is no runner, and when paused runners have none left.
    """

    def __init__(self, observer: Observer, clock: Callable[[], float], replicas: int = 1) -> None:
        self._observer = observer
        self._clock = clock
        self._next_id = 1  # 0 is the runner's own warm-up
        self._sequences: dict[int, Sequence] = {}  # every open one
        self._queue: FairQueue[Sequence] = FairQueue()
        self._background: FairQueue[Sequence] = FairQueue()
        self._suspects = Suspects()
        self._pace = Pace()
        self._usual_tokens = _FIRST_GUESS
        self.posts = Posts(replicas, clock())
        self.turned: Callable[[], None] = _nobody
        self._paused = False
        self.vocabulary = _ANY_ID

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
        known = self._at_posts(gone)
        for request_id in gone:
            self._end(self._sequences[request_id], reason)
        self._abort(known)

    def expire(self, submission: Submission, error: OpenLLMError) -> None:
        """End a submission with ``error``, and stop it in the runner."""
        self._stop(submission, error.message, type(error).__name__)
        self._dispatch()

    def open(self, send: Send, width: int, replica: int = 0) -> None:
        """A runner is ready whose engine runs at most ``width`` sequences at once: pass on what waits."""
        self.posts[replica].open(send, width, self._clock())
        self._dispatch()

    def pause(self, paused: bool) -> None:
        """Give runners no more sequences, or go on doing so; those that they have are answered."""
        self._paused = paused
        if not paused:
            self._dispatch()

    def close(self, message: str, replica: int = 0) -> bool:
        """The runner is gone: what may run again waits for another, the rest ends with ``message``.

        Returns whether one submission is to blame that will be tried again: that says little about the engine.
        """
        lost = [self._sequences[i] for i in self.posts.close(replica)]
        if not self.posts.open:
            self._paused = False
        for sequence in lost:
            sequence.post = None
        submissions = list(dict.fromkeys(sequence.submission for sequence in lost))
        guilty = self._suspects.blame(submissions)
        for submission in submissions:
            if not submission.repeatable:
                self._stop(submission, message, AnswerLost.__name__)
            elif submission is guilty and self._suspects.gives_up(submission):
                why = f"{message} {submission.deaths} times it had only this request."
                self._stop(submission, why, RunnerDied.__name__)
                guilty = None
            else:
                self._suspect(submission)
        self._dispatch()
        return guilty is not None

    def give_up(self, replica: int) -> None:
        """Nothing is to wait for a runner of this replica, which may come or not."""
        self.posts[replica].expected = False
        self._dispatch()

    def fail_all(self, message: str) -> None:
        """End everything with an error."""
        for submission in dict.fromkeys(sequence.submission for sequence in self._sequences.values()):
            self._fail(submission, message)

    def receive(self, deltas: list[Delta], replica: int = 0) -> None:
        """Deliver one step of a runner. The per-token path of the front begins here. Raises ``Garbage``."""
        post = self.posts[replica]
        now = post.last_heard = self._clock()
        observer = self._observer
        sequences = self._sequences
        count = 0
        ended = False
        at_runner = post.at_runner
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
                        ended |= self._clear(submission)
                else:
                    observer.next_token(now - last)
                sequence.last_token_at = now
            if delta.finish is not None:
                ended = True
                self._end(sequence, delta.finish)
            submission.deliver(delta)
        if count:
            post.fruitful = True
            observer.tokens(count)
        if ended:
            self._dispatch()

    def receive_vectors(self, vectors: list[Vector], replica: int = 0) -> None:
        """Deliver one step of an encoder. Raises ``Garbage``."""
        post = self.posts[replica]
        post.last_heard = self._clock()
        for vector in vectors:
            sequence = self._sequences.get(vector.id)
            if sequence is None:
                self._check_known(vector.id)
                continue  # cancelled while it was on its way
            if vector.id not in post.at_runner:
                raise Garbage(f"a vector for text {vector.id}, which it has not got")
            if not vector.error:
                check_numbers(vector)
                sequence.submission.brought = post.fruitful = True
            self._end(sequence, "error" if vector.error else "stop")
            sequence.submission.deliver(vector)
        if vectors:
            self._dispatch()

    def silent_since(self, replica: int = 0) -> float | None:
        """When the runner was heard last, or got work; None while it has none."""
        post = self.posts[replica]
        if post.send is None or not post.at_runner:
            return None
        return max(post.last_heard, post.busy_since)

    def silent_for(self, replica: int = 0) -> float:
        """Seconds since the runner was heard while it had work; 0 when it has none."""
        since = self.silent_since(replica)
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
        """Sequences that the last runners would take, had they none; 0 before there was one."""
        return sum(post.room.live for post in self.posts)

    def free(self) -> int:
        """Sequences that runners would take at once; 0 while there is none, or while others wait."""
        if self._paused or self._queue or self._suspects:
            return 0
        open_posts = (post for post in self.posts if post.send is not None)
        return sum(max(0, post.room.live - len(post.at_runner)) for post in open_posts)

    def retry_after(self) -> float:
        """Seconds until what waits now should have had its turn, judged by how fast sequences ended of late."""
        seconds = self._pace.seconds_for(len(self._queue), self._clock()) or _SHORTEST_RETRY_SECONDS
        return min(_LONGEST_RETRY_SECONDS, max(_SHORTEST_RETRY_SECONDS, seconds))

    def expected_tokens(self, most: int) -> float:
        """How long an answer of at most ``most`` tokens will be, judged by those before it."""
        return min(most, self._usual_tokens)

    @property
    def at_runner(self) -> int:
        """Sequences that runners have."""
        return self.posts.at_runners

    @property
    def live_at_runner(self) -> int:
        """As ``at_runner``, without background work."""
        ids = (i for post in self.posts for i in post.at_runner)
        return sum(not self._sequences[i].submission.caller.background for i in ids)

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
        if first or not self.posts.open:
            self.turned()
        self._dispatch()

    def _dispatch(self) -> None:
        """Send runners as many sequences as they have room for."""
        if self._paused or not self.posts.open:
            return
        given: dict[Post, list[Sequence]] = {}
        while (placed := self._next()) is not None:
            sequence, post = placed
            now = self._clock()
            self.posts.give(post, sequence, now)
            if sequence.submission.dispatched_at is None:
                sequence.submission.dispatched_at = now
            self._charge(sequence, len(sequence.prompt) + self.expected_tokens(sequence.most_tokens))
            given.setdefault(post, []).append(sequence)
        for post, sequences in given.items():
            post.hand_over(sequences)

    def _next(self) -> tuple[Sequence, Post] | None:
        """What is to be given to a runner now, and the post that is to have it."""
        if self._suspects:
            ward = self.posts.ward(harmful=self._suspects.harmful)
            sequence = None if ward is None else self._suspects.pop()
            if ward is not None and sequence is not None:
                return sequence, ward
        if self._queue:
            if not self.posts.has_room():
                return None
            sequence = self._queue.pop()
            return sequence, self.posts.choose(sequence)
        if self._background and self.posts.has_room(background=True):
            sequence = self._background.pop()
            return sequence, self.posts.choose(sequence, background=True)
        return None

    def _at_posts(self, ids: Iterable[int]) -> dict[Post, list[int]]:
        """Those of some open sequences that runners have."""
        found: dict[Post, list[int]] = {}
        for request_id in ids:
            post = self._sequences[request_id].post
            if post is not None:
                found.setdefault(post, []).append(request_id)
        return found

    def _abort(self, known: dict[Post, list[int]]) -> None:
        """Stop sequences that runners had, and give them others in their place."""
        for post, ids in known.items():
            if post.send is not None:
                post.send(Abort(ids))
        if known:
            self._dispatch()

    def _stop(self, submission: Submission, message: str, kind: str) -> None:
        """End a submission with an error, here and in the runners."""
        known = self._at_posts(sorted(submission.open_ids))
        self._fail(submission, message, kind)
        for post, ids in known.items():
            if post.send is not None:
                post.send(Abort(ids))

    def _end(self, sequence: Sequence, reason: FinishReason) -> None:
        """Forget one sequence, and settle what its caller was charged for it."""
        submission = sequence.submission
        del self._sequences[sequence.id]
        submission.open_ids.discard(sequence.id)
        sequence.finish = reason
        self._observer.finished(reason)
        if sequence.post is not None:
            self._leave(sequence)
            self._pace.ended(self._clock())
            self._charge(sequence, len(sequence.prompt) + sequence.tokens - sequence.charged)
            if reason in ("stop", "length"):
                self._usual_tokens += _LEARNING * (sequence.tokens - self._usual_tokens)
        else:
            self._take_back(sequence)
        if not submission.open_ids:
            self._clear(submission)
        self._tell_if_done()

    @staticmethod
    def _leave(sequence: Sequence) -> None:
        """The runner that has it has it no longer."""
        if sequence.post is not None:
            sequence.post.at_runner.discard(sequence.id)
            sequence.post = None

    def _clear(self, submission: Submission) -> bool:
        """It is no suspect any more: what still waits of it is the next of its caller's. Was it one?"""
        waiting = self._suspects.remove(submission)
        if not self._suspects:
            self.posts.dismiss_ward()
        for sequence in reversed(waiting or ()):
            caller = submission.caller
            self._queue_of(caller).push(caller.name, sequence.id, sequence, first=True)
        return waiting is not None

    def _tell_if_done(self) -> None:
        if not self._sequences or (self._paused and not self.posts.at_runners):
            self.turned()

    def _take_back(self, sequence: Sequence) -> None:
        """Out of where it waits, if it does."""
        caller = sequence.submission.caller
        if not self._queue_of(caller).discard(caller.name, sequence.id):
            self._suspects.discard(sequence)

    def _suspect(self, submission: Submission) -> None:
        """Have what is open of it and no runner has wait for one, apart from the others."""
        again = [
            sequence
            for sequence in submission.sequences
            if sequence.id in submission.open_ids and sequence.post is None
        ]
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
                self._leave(sequence)
                sequence.finish = "error"
                del self._sequences[sequence.id]
                self._observer.finished("error")
        self._clear(submission)
        submission.fail(message, kind)
        self._tell_if_done()


def _nobody() -> None:
    """Whom to tell where nobody wants to know."""
