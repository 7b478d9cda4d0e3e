"""What the runner is given and when, without a runner: the messages to it are looked at."""

from __future__ import annotations

import math
from array import array

import pytest

from openllm.api.metrics import Metrics
from openllm.engines.base import Delta, Sampling
from openllm.engines.encoding import Encoding, Vector
from openllm.errors import DeadlineExceeded
from openllm.fleet.caller import Caller
from openllm.fleet.desk import Desk
from openllm.fleet.garbage import Garbage
from openllm.fleet.submission import EncodingSubmission, GenerationSubmission
from openllm.runner.wire import MOST_TOKENS_A_FRAME, Abort, Add, Encode, ToRunner, parted

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
        self.vectors: list[Vector] = []

    def open(self, width: int = WIDTH) -> None:
        self.desk.open(self.sent.append, width)

    def submit(self, caller: str = "", count: int = 1, *, background: bool = False) -> GenerationSubmission:
        prompts = [([1, 2, 3], Sampling(max_tokens=10)) for _ in range(count)]
        return self.desk.submit(prompts, self.delivered.append, Caller(caller, background))

    def encode(self, caller: str = "", count: int = 1, length: int = 3) -> EncodingSubmission:
        texts = [([1] * length, 0) for _ in range(count)]
        return self.desk.submit_encodings(texts, self.vectors.append, Caller(caller))

    def encodings(self) -> list[list[int]]:
        """Ids of texts that were sent since the last look, message by message."""
        found = [[each.id for each in m.encodings] for m in self.sent if isinstance(m, Encode)]
        self.sent.clear()
        return found

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


def test_what_a_dead_runner_had_goes_first_and_one_by_one_until_it_has_a_token() -> None:
    office = Office()
    office.open(1)
    first, second, third = (office.submit() for _ in range(3))
    office.added()
    office.desk.close("The runner ended.")
    office.open(1)
    assert office.added() == [first.generations[0].id]
    assert office.desk.queued() == 2
    assert office.desk.free() == 0
    office.desk.receive([Delta(first.generations[0].id, [5])])
    assert office.added() == [second.generations[0].id]
    office.finish(second.generations[0].id)
    assert office.added() == [third.generations[0].id]


def test_a_request_that_kills_every_runner_is_given_up_and_nobody_else() -> None:
    office = Office()
    poison = office.submit()
    others = [office.submit() for _ in range(5)]
    deaths = 0
    while len(office.desk):
        office.open()
        while (added := office.added()) and poison.generations[0].id not in added:
            office.finish(*added)
        if added:
            deaths += 1
            assert office.desk.close("The runner ended.") is (1 < deaths < 4)
    assert deaths == 4  # once together with the others, then alone
    failed = [delta for delta in office.delivered if delta.finish == "error"]
    assert [delta.id for delta in failed] == [poison.generations[0].id]
    assert "3 times" in failed[0].error
    assert len(office.delivered) == 1 + len(others)


def test_a_request_alone_is_tried_three_times() -> None:
    office = Office()
    office.submit()
    for excused in (True, True, False):
        office.open()
        assert len(office.added()) == 1
        assert office.desk.close("The runner ended.") is excused
    assert [delta.finish for delta in office.delivered] == ["error"]
    assert not office.desk.posts[0].fruitful


def test_chance_deaths_give_nobody_up_as_long_as_there_is_an_answer_between() -> None:
    office = Office()
    for _ in range(30):
        office.submit()
    for _ in range(12):
        office.open()
        office.finish(office.added()[0])
        office.desk.close("The runner ended.")
        assert office.desk.posts[0].fruitful
        office.added()
    office.open()
    while added := office.added():
        office.finish(*added)
    assert [delta.finish for delta in office.delivered] == ["length"] * 30


def test_a_suspect_whose_client_leaves_lets_the_others_go_on() -> None:
    office = Office()
    office.open()
    first, second = office.submit(count=20), office.submit()
    office.desk.close("The runner ended.")
    office.sent.clear()
    office.open()
    assert office.added() == [g.id for g in first.generations[:ROOM]]
    office.desk.cancel(first)
    assert office.added() == [second.generations[0].id]
    office.desk.expire(second, DeadlineExceeded("Too late."))
    late = office.submit()
    assert late.generations[0].id in office.added()
    assert (len(office.desk), office.desk.queued()) == (1, 0)


def test_live_suspects_go_before_background_ones() -> None:
    office = Office()
    office.open()
    background = office.submit("batch", background=True)
    live = office.submit("live")
    office.desk.close("The runner ended.")
    office.sent.clear()
    assert (office.desk.queued(), office.desk.queued(background=True)) == (1, 1)
    office.open()
    assert office.added() == [live.generations[0].id]
    office.finish(live.generations[0].id)
    assert office.added() == [background.generations[0].id]


def test_results_that_nobody_can_have_asked_for_are_garbage() -> None:
    office = Office()
    office.desk.vocabulary = 100
    office.open(1)
    running, spare, waiting = (office.submit() for _ in range(3))
    office.desk.cancel(spare)
    office.desk.receive([Delta(spare.generations[0].id, [5])])  # it was on its way
    for delta in (
        Delta(waiting.generations[0].id + 10, [5]),
        Delta(0, [5]),
        Delta(running.generations[0].id, [100]),
        Delta(running.generations[0].id, [5, 100, 7]),
    ):
        with pytest.raises(Garbage):
            office.desk.receive([delta])
    office.desk.close("The runner ended.")
    with pytest.raises(Garbage):
        office.desk.receive([Delta(running.generations[0].id, [5])])
    assert office.delivered == []


@pytest.mark.parametrize(
    "values", [b"", b"123", array("f", [1, math.nan]), array("f", [math.inf, -math.inf])]
)
def test_a_vector_that_is_not_made_of_numbers_is_garbage(values: bytes | array[float]) -> None:
    office = Office()
    office.open()
    texts = office.encode(count=2)
    with pytest.raises(Garbage):
        office.desk.receive_vectors([Vector(texts.ids[0], bytes(values))])
    assert office.vectors == []


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


def test_texts_that_go_at_the_same_moment_go_in_one_message() -> None:
    office = Office()
    waiting = office.encode("a", 3), office.encode("b", 3)
    office.open()
    (together,) = office.encodings()
    assert sorted(together) == sorted(waiting[0].ids + waiting[1].ids)
    more = office.encode("a", 20)
    (rest,) = office.encodings()
    assert rest == more.ids[: ROOM - 6]
    office.desk.receive_vectors([Vector(i, b"1234") for i in together])
    (rest,) = office.encodings()
    assert rest == more.ids[ROOM - 6 : ROOM]
    assert [each.id for each in office.vectors] == together


def test_texts_are_shared_fairly_by_their_tokens() -> None:
    office = Office()
    office.open(1)
    many = office.encode("long", 50, length=30)
    few = office.encode("short", 2)
    office.sent.clear()
    office.desk.receive_vectors([Vector(many.ids[0], b"1234"), Vector(many.ids[1], b"1234")])
    (chosen,) = office.encodings()
    assert chosen == few.ids


def test_texts_without_a_vector_run_again_as_long_as_others_come_of_it() -> None:
    office = Office()
    texts = office.encode(count=8)
    for done in range(6):
        office.open()
        assert office.encodings() == [texts.ids[done:]]
        office.desk.receive_vectors([Vector(texts.ids[done], b"1234")])
        office.sent.clear()
        assert not office.desk.close("The runner ended.")
    for _ in range(3):
        office.open()
        assert office.encodings() == [texts.ids[6:]]
        office.desk.close("The runner ended.")
    assert [bool(each.error) for each in office.vectors] == [False] * 6 + [True] * 2
    assert (len(office.desk), office.desk.queued()) == (0, 0)


def test_texts_end_with_a_deadline_or_their_client() -> None:
    office = Office()
    office.open(1)
    late, gone, last = office.encode(count=3), office.encode(count=3), office.encode()
    office.sent.clear()
    office.desk.expire(late, DeadlineExceeded("Too late."))
    assert [(each.id, each.error, each.kind) for each in office.vectors] == [
        (each, "Too late.", "DeadlineExceeded") for each in late.ids
    ]
    assert office.sent[0] == Abort(late.ids[:2])
    office.desk.cancel(gone)
    assert last.ids in office.encodings()
    assert len(office.vectors) == 3
    assert (late.prompt_tokens, late.answer_tokens) == (9, 0)


def test_texts_are_parted_where_a_frame_has_no_room() -> None:
    long = [1] * (MOST_TOKENS_A_FRAME // 2)
    texts = [Encoding(id, long) for id in range(1, 6)]
    assert [[each.id for each in m.encodings] for m in parted(Encode(texts)) if isinstance(m, Encode)] == [
        [1, 2], [3, 4], [5],
    ]  # fmt: skip
