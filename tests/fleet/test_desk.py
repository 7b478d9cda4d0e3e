"""What the runner is given and when, without a runner: the messages to it are looked at."""

from __future__ import annotations

from openllm.api.metrics import Metrics
from openllm.engines.base import Delta, Sampling
from openllm.fleet.caller import Caller
from openllm.fleet.desk import Desk
from openllm.fleet.submission import Submission
from openllm.runner.wire import Abort, Add, ToRunner

WIDTH = 8
ROOM = 9  # one more than the batch
BACKGROUND = 7


class Office:
    """A desk, the messages it sends, and the clock that it looks at."""

    def __init__(self) -> None:
        self.now = 0.0
        self.desk = Desk(Metrics(), lambda: self.now)
        self.sent: list[ToRunner] = []
        self.delivered: list[Delta] = []

    def open(self, width: int = WIDTH) -> None:
        self.desk.open(self.sent.append, width)

    def submit(self, caller: str = "", count: int = 1, *, background: bool = False) -> Submission:
        prompts = [([1, 2, 3], Sampling(max_tokens=10)) for _ in range(count)]
        return self.desk.submit(prompts, self.delivered.append, Caller(caller, background))

    def added(self) -> list[int]:
        """Ids that were sent since the last look, in order."""
        ids = [
            generation.id
            for message in self.sent
            if isinstance(message, Add)
            for generation in message.generations
        ]
        self.sent.clear()
        return ids

    def finish(self, *ids: int) -> None:
        self.now += 1.0
        self.desk.receive([Delta(i, [5], "length") for i in ids])


def test_the_runner_gets_no_more_than_it_has_room_for() -> None:
    office = Office()
    office.open()
    submissions = [office.submit() for _ in range(20)]
    first = office.added()
    assert len(first) == ROOM
    assert office.desk.queued() == 20 - ROOM
    office.finish(*first[:4])
    assert office.added() == [s.generations[0].id for s in submissions[ROOM : ROOM + 4]]


def test_what_waits_for_a_runner_goes_to_it_in_turns() -> None:
    office = Office()
    many = office.submit("many", 50)
    few = [office.submit("few") for _ in range(3)]
    assert office.added() == []
    office.open()
    first = office.added()
    assert {s.generations[0].id for s in few} <= set(first)
    assert len(set(first) & {g.id for g in many.generations}) == ROOM - 3


def test_background_work_runs_only_when_nobody_else_waits_and_leaves_a_place() -> None:
    office = Office()
    office.open()
    background = office.submit("batch", 20, background=True)
    first = office.added()
    assert first == [g.id for g in background.generations[:BACKGROUND]]
    live = [office.submit("live") for _ in range(4)]
    assert office.added() == [s.generations[0].id for s in live[: ROOM - BACKGROUND]]
    office.finish(*first[:3])
    assert office.added() == [s.generations[0].id for s in live[2:]]  # at 8, no place for background work
    assert office.desk.queued(background=True) == 20 - BACKGROUND


def test_a_cancelled_sequence_frees_its_place_at_once() -> None:
    office = Office()
    office.open(1)
    running, spare, waiting, last = (office.submit() for _ in range(4))
    assert len(office.added()) == 2
    office.desk.cancel(waiting)
    assert office.sent == []  # the runner never knew of it
    office.desk.cancel(running)
    assert office.sent[0] == Abort([running.generations[0].id])
    assert office.added() == [last.generations[0].id]
    assert len(office.desk) == 2
    office.desk.cancel(spare)


def test_a_retried_submission_goes_ahead_of_those_that_came_later() -> None:
    office = Office()
    office.open(1)
    first, second, third = (office.submit() for _ in range(3))
    office.desk.close("The runner ended.")
    office.added()
    office.open(1)
    assert office.added() == [first.generations[0].id, second.generations[0].id]
    office.desk.close("The runner ended.")
    assert [delta.finish for delta in office.delivered] == ["error", "error"]
    office.open(1)
    assert office.added() == [third.generations[0].id]


def test_a_submission_that_had_begun_ends_with_its_runner_even_where_it_waits() -> None:
    office = Office()
    office.open(1)
    submission = office.submit(count=4)
    office.desk.receive([Delta(submission.generations[0].id, [5])])
    office.desk.close("The runner ended.")
    assert len(office.delivered) == 1 + 4
    assert (len(office.desk), office.desk.queued()) == (0, 0)


def test_the_time_to_come_back_follows_the_rate() -> None:
    office = Office()
    office.open(1)
    submissions = [office.submit() for _ in range(32)]
    assert office.desk.retry_after() == 1.0  # nothing has ended yet
    for submission in submissions[:10]:
        office.finish(submission.generations[0].id)  # one a second
    assert 15 <= office.desk.retry_after() <= 20 + 1


def test_a_submission_knows_its_times_and_tokens() -> None:
    office = Office()
    submission = office.submit(count=2)
    office.now = 2.0
    office.open()
    office.now = 3.0
    office.desk.receive([Delta(g.id, [5, 6]) for g in submission.generations])
    times = submission.submitted_at, submission.dispatched_at, submission.first_token_at
    assert (*times, submission.answer_tokens) == (0.0, 2.0, 3.0, 4)
