"""Submissions that a runner may have died of. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from openllm.fleet.submission import Sequence, Submission

# Deaths with nobody else to blame after which a submission is given up. Two may still be chance: a machine short of
# memory, or somebody's kill.
_MOST_DEATHS = 3


class Suspects:
    """What a dead runner had and had brought nothing for, each with those of its sequences that wait.

    They go to one runner, one by one: the first alone until it brings something, then the next. So one that kills
    every runner is found without harm to the others, and no other is given up, however often runners die of other
    causes. Live ones go before background ones.
    """

    def __init__(self) -> None:
        self._waiting: dict[Submission, deque[Sequence]] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def blame(self, lost: Iterable[Submission]) -> Submission | None:
        """These were at a runner that died. Which one alone can have been the cause, if that can be said?"""
        idle = []
        for submission in lost:
            if submission.brought:
                submission.deaths = submission.losses = 0
            elif submission.repeatable:
                idle.append(submission)
            submission.brought = False
        if len(idle) != 1:
            return None
        idle[0].deaths += 1
        return idle[0]

    def gives_up(self, submission: Submission) -> bool:
        """Is it certain by now?"""
        return submission.deaths >= _MOST_DEATHS

    def add(self, submission: Submission, sequences: Iterable[Sequence]) -> None:
        """Have it wait, or begin again."""
        submission.losses += 1
        self._waiting[submission] = deque(sequences)
        if not submission.caller.background:
            later = [each for each in self._waiting if each.caller.background]
            for each in later:
                self._waiting[each] = self._waiting.pop(each)

    @property
    def harmful(self) -> bool:
        """Was the first one lost more than once, so that it may well kill the next runner too?"""
        return next(iter(self._waiting)).losses > 1

    def pop(self) -> Sequence | None:
        """The next sequence of the first one; None while all of them are at the runner."""
        waiting = next(iter(self._waiting.values()))
        return waiting.popleft() if waiting else None

    def discard(self, sequence: Sequence) -> None:
        """Forget a sequence that may wait."""
        waiting = self._waiting.get(sequence.submission)
        if waiting is not None and sequence in waiting:
            waiting.remove(sequence)

    def remove(self, submission: Submission) -> deque[Sequence] | None:
        """It is no suspect any more, or has ended. What waited of it, None if it was none."""
        return self._waiting.pop(submission, None)

    def waiting(self, background: bool) -> int:
        """Sequences that wait: of background callers, or of all others."""
        return sum(
            len(sequences)
            for submission, sequences in self._waiting.items()
            if submission.caller.background is background
        )
