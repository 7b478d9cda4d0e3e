"""The submissions of one model: which are held, which the runner has, and what comes back for them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

from openllm.engines.base import Delta, Generation, Sampling
from openllm.engines.encoding import Encoding, Vector
from openllm.fleet.observer import Observer
from openllm.fleet.submission import EncodingSubmission, Submission
from openllm.runner.wire import Abort, ToRunner

Send = Callable[[ToRunner], None]


class Desk:
    """Hands submissions to the runner while there is one (``send`` set by ``open``) and holds them while not."""

    def __init__(self, observer: Observer, clock: Callable[[], float]) -> None:
        self._observer = observer
        self._clock = clock
        self._ids = itertools.count(1)  # 0 is the runner's own warm-up
        self._submissions: dict[int, Submission] = {}  # every open sequence's id -> its submission
        self._held: dict[Submission, None] = {}
        self._send: Send | None = None
        self.last_heard = clock()

    def submit(
        self, prompts: Iterable[tuple[list[int], Sampling]], deliver: Callable[[Delta], None]
    ) -> Submission:
        """Take in sequences that belong together; they run now or when a runner is ready.

        ``deliver`` gets their deltas, the first one after this has returned.
        """
        generations = [Generation(next(self._ids), prompt, sampling) for prompt, sampling in prompts]
        submission = Submission(generations, deliver, self._clock())
        self._submissions.update(dict.fromkeys(submission.open_ids, submission))
        self._dispatch(submission)
        return submission

    def submit_encodings(
        self, texts: Iterable[tuple[list[int], int]], deliver: Callable[[Vector], None]
    ) -> EncodingSubmission:
        """Take in texts that belong together, each with where its second one begins (see ``Encoding``).

        ``deliver`` gets a vector for each, in any order, the first one after this has returned.
        """
        encodings = [Encoding(next(self._ids), ids, second) for ids, second in texts]
        submission = EncodingSubmission(encodings, deliver, self._clock())
        self._submissions.update(dict.fromkeys(submission.open_ids, submission))
        self._dispatch(submission)
        return submission

    def cancel(self, submission: Submission, ids: Iterable[int] | None = None) -> None:
        """Forget a submission, or some of its sequences, here and in the runner. Nothing more is delivered."""
        gone = [i for i in (submission.open_ids if ids is None else ids) if i in submission.open_ids]
        for request_id in gone:
            submission.open_ids.discard(request_id)
            del self._submissions[request_id]
            self._observer.finished("abort")
        if not submission.open_ids:
            held = submission in self._held
            self._held.pop(submission, None)
            if held:
                return
        if gone and self._send is not None:
            self._send(Abort(gone))

    def open(self, send: Send) -> None:
        """A runner is ready: pass on what was held, and everything from now on."""
        self._send = send
        self.last_heard = self._clock()
        held, self._held = self._held, {}
        for submission in held:
            self._dispatch(submission)

    def close(self, message: str) -> None:
        """The runner is gone: what had no token yet is held for one more try, the rest ends with ``message``."""
        self._send = None
        for submission in dict.fromkeys(self._submissions.values()):
            if submission in self._held:
                continue
            if submission.started or submission.retried:
                self._fail(submission, message)
            else:
                submission.retried = True
                self._held[submission] = None

    def fail_all(self, message: str) -> None:
        """End everything with an error."""
        for submission in dict.fromkeys(self._submissions.values()):
            self._fail(submission, message)
        self._held.clear()

    def receive(self, deltas: list[Delta]) -> None:
        """Deliver one step of the runner. The per-token path of the front begins here."""
        now = self.last_heard = self._clock()
        observer = self._observer
        submissions = self._submissions
        count = 0
        for delta in deltas:
            submission = submissions.get(delta.id)
            if submission is None:
                continue  # cancelled while it was on its way
            if delta.tokens:
                count += len(delta.tokens)
                last = submission.last_token_at.get(delta.id)
                if last is None:
                    observer.first_token(now - submission.submitted_at)
                else:
                    observer.next_token(now - last)
                submission.last_token_at[delta.id] = now
            if delta.finish is not None:
                del submissions[delta.id]
                submission.open_ids.discard(delta.id)
                observer.finished(delta.finish)
            submission.deliver(delta)
        if count:
            observer.tokens(count)

    def receive_vectors(self, vectors: list[Vector]) -> None:
        """Deliver one step of an encoder."""
        self.last_heard = self._clock()
        for vector in vectors:
            submission = self._submissions.pop(vector.id, None)
            if not isinstance(submission, EncodingSubmission):
                continue  # cancelled while it was on its way
            submission.open_ids.discard(vector.id)
            self._observer.finished("error" if vector.error else "stop")
            submission.take(vector)

    def silent_for(self) -> float:
        """Seconds since the runner was heard while it had work; 0 when it has none."""
        at_work = [s.submitted_at for s in self._submissions.values() if s not in self._held]
        if self._send is None or not at_work:
            return 0.0
        return self._clock() - max(self.last_heard, min(at_work))

    def counts(self) -> tuple[int, int]:
        """(sequences without a token yet, sequences with one)."""
        running = sum(1 for i, s in self._submissions.items() if i in s.last_token_at)
        return len(self._submissions) - running, running

    def __len__(self) -> int:
        """Open sequences."""
        return len(self._submissions)

    def _dispatch(self, submission: Submission) -> None:
        if self._send is None:
            self._held[submission] = None
        else:
            self._send(submission.message())

    def _fail(self, submission: Submission, message: str) -> None:
        for request_id in submission.open_ids:
            del self._submissions[request_id]
            self._observer.finished("error")
        submission.fail(message)
