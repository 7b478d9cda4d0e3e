"""A desk with several runners, without processes: what each is given, and what becomes of it when one is gone."""

from __future__ import annotations

import pytest

from openllm.api.metrics import Metrics
from openllm.engines.base import Delta, Sampling
from openllm.engines.encoding import Vector
from openllm.fleet.desk import Desk
from openllm.fleet.garbage import Garbage
from openllm.fleet.submission import EncodingSubmission, GenerationSubmission
from openllm.runner.wire import Abort, Add, Encode, ToRunner

WIDTH = 8
ROOM = 9  # one more than the batch
SYSTEM = list(range(1000, 1256))  # 8 blocks


class Offices:
    """A desk with several runners, and the messages to each."""

    def __init__(self, replicas: int = 2) -> None:
        self.desk = Desk(Metrics(), lambda: 0.0, replicas)
        self.sent: list[list[ToRunner]] = [[] for _ in range(replicas)]
        self.delivered: list[Delta] = []
        self.vectors: list[Vector] = []
        for replica in range(replicas):
            self.open(replica)

    def open(self, replica: int) -> None:
        self.sent[replica].clear()
        self.desk.open(self.sent[replica].append, WIDTH, replica)

    def submit(
        self, prompt: list[int] | None = None, count: int = 1, adapter: str = ""
    ) -> GenerationSubmission:
        prompts = [(prompt or [1, 2, 3], Sampling(max_tokens=10)) for _ in range(count)]
        return self.desk.submit(prompts, self.delivered.append, adapter=adapter)

    def encode(self, count: int) -> EncodingSubmission:
        return self.desk.submit_encodings([([1, 2, 3], 0)] * count, self.vectors.append)

    def added(self, replica: int) -> list[int]:
        """Ids that were sent to a runner since the last look."""
        ids = []
        for message in self.sent[replica]:
            if isinstance(message, Add):
                ids += [each.id for each in message.generations]
            elif isinstance(message, Encode):
                ids += [each.id for each in message.encodings]
        self.sent[replica].clear()
        return ids

    def bring(self, replica: int, *ids: int) -> None:
        """A token for each."""
        self.desk.receive([Delta(i, [5]) for i in ids], replica)

    def finish(self, replica: int, *ids: int) -> None:
        self.desk.receive([Delta(i, [5], "length") for i in ids], replica)

    def errors(self) -> list[int]:
        return [delta.id for delta in self.delivered if delta.finish == "error"]


def only(submission: GenerationSubmission) -> int:
    return submission.generations[0].id


def test_unlike_requests_are_spread_evenly_up_to_the_room_of_all() -> None:
    office = Offices(3)
    for _ in range(3 * ROOM + 2):
        office.submit()
    assert [len(office.added(replica)) for replica in range(3)] == [ROOM] * 3
    assert office.desk.queued() == 2
    assert (office.desk.room, office.desk.free(), office.desk.at_runner) == (3 * ROOM, 0, 3 * ROOM)


def test_requests_with_the_same_beginning_stay_together_up_to_the_bound() -> None:
    office = Offices(2)
    office.submit([*SYSTEM, 1])
    office.submit([7] * 300)
    home = 0 if office.added(0) else 1
    office.added(1 - home)
    for number in range(4):
        office.submit([*SYSTEM, 2, number])
    assert len(office.added(home)) == 4
    office.submit([*SYSTEM, 3])  # 5 against 1: not clearly more
    office.submit([*SYSTEM, 4])
    assert (len(office.added(home)), len(office.added(1 - home))) == (1, 1)


def test_an_adapter_s_requests_are_not_drawn_to_what_the_model_has_read() -> None:
    office = Offices(2)
    office.submit([*SYSTEM, 1])
    home = 0 if office.added(0) else 1
    office.submit([*SYSTEM, 1], adapter="sql")
    assert len(office.added(1 - home)) == 1
    office.submit([*SYSTEM, 2], adapter="sql")
    office.submit([*SYSTEM, 2], adapter="sql")
    assert len(office.added(1 - home)) == 2


def test_a_new_runner_is_not_thought_to_have_read_what_the_one_before_had() -> None:
    office = Offices(2)
    office.finish(0, only(office.submit([*SYSTEM, 1])))
    office.desk.close("It ended.", 0)
    office.open(0)
    office.added(0)
    office.submit([*SYSTEM, 2])  # both have nothing to do, and 1 has had nothing for longer
    assert (len(office.added(0)), len(office.added(1))) == (0, 1)


def test_what_one_runner_had_goes_to_the_other_at_once_and_the_other_s_goes_on() -> None:
    office = Offices(2)
    submissions = [office.submit() for _ in range(6)]
    mine, others = office.added(0), office.added(1)
    office.bring(0, mine[0])
    office.bring(1, *others)
    assert office.desk.close("It ended.", 0) is False
    assert office.errors() == [mine[0]]  # it had begun
    assert office.added(1) == [mine[1]]  # one by one
    office.bring(1, mine[1])
    assert office.added(1) == [mine[2]]
    office.finish(1, *others, *mine[1:])
    assert office.errors() == [mine[0]]
    assert (len(office.desk), len(submissions)) == (0, 6)


def test_while_a_suspect_has_brought_nothing_its_runner_gets_nothing_else_and_others_do() -> None:
    office = Offices(3)
    first = [office.submit() for _ in range(3)]
    lost = office.added(0)
    office.added(1), office.added(2)
    office.desk.close("It ended.", 0)
    (ward,) = [replica for replica in (1, 2) if lost == office.added(replica)]
    late = [only(office.submit()) for _ in range(3)]
    assert office.added(ward) == []
    assert office.added(3 - ward) == late
    office.bring(ward, *lost)
    office.submit()
    assert len(office.added(ward)) == 1
    assert len(first) == 3


def test_a_request_that_kills_runners_kills_one_other_at_most_that_has_work() -> None:
    office = Offices(3)
    poison = only(office.submit())
    others = [only(office.submit()) for _ in range(5)]
    deaths, harmed = 0, 0
    having: dict[int, set[int]] = {0: set(), 1: set(), 2: set()}
    for _ in range(40):
        for replica, has in having.items():
            has |= set(office.added(replica))
        dying = [replica for replica, has in having.items() if poison in has]
        for replica, has in having.items():
            office.bring(replica, *(i for i in has if i != poison and i in others))
        if not dying:
            break
        (replica,) = dying
        deaths += 1
        before = len(office.errors())
        office.desk.close("It ended.", replica)
        harmed += any(i != poison for i in office.errors()[before:])
        having[replica].clear()
        office.open(replica)
    assert deaths <= 4
    assert harmed <= 2  # where it was first, and where it was tried again at once
    assert poison in office.errors()
    assert "3 times" in next(delta.error for delta in office.delivered if delta.id == poison)


def lost_twice(office: Offices) -> tuple[int, int]:
    """A request that two runners died of, the first one there again with a stream; the ids of both."""
    poison = only(office.submit())
    office.added(0)
    stream = only(office.submit())
    office.bring(1, stream)
    office.desk.close("It ended.", 0)
    assert poison in office.added(1)
    office.open(0)
    second = only(office.submit())
    office.bring(0, second)
    office.desk.close("It ended.", 1)
    office.added(0)
    assert office.errors() == [stream]
    assert office.desk.queued() == 1
    return poison, second


def test_what_was_lost_twice_waits_for_an_empty_runner_while_one_is_to_come() -> None:
    office = Offices(2)
    poison, _ = lost_twice(office)
    more = only(office.submit())
    assert office.added(0) == [more]  # it goes on meanwhile
    office.open(1)
    assert office.added(1) == [poison]


def test_what_was_lost_twice_waits_until_a_runner_is_empty_if_none_will_come() -> None:
    office = Offices(2)
    poison, second = lost_twice(office)
    office.desk.give_up(1)
    more = only(office.submit())
    assert office.added(0) == []
    office.finish(0, second)
    assert office.added(0) == [poison]
    office.bring(0, poison)
    assert office.added(0) == [more]


def test_the_texts_of_one_request_are_spread_and_those_of_a_dead_runner_run_elsewhere() -> None:
    office = Offices(2)
    texts = office.encode(12)
    mine, others = office.added(0), office.added(1)
    assert sorted([*mine, *others]) == texts.ids
    assert (len(mine), len(others)) == (6, 6)
    office.desk.close("It ended.", 0)
    assert office.added(1) == mine[: ROOM - 6]
    office.desk.receive_vectors([Vector(i, b"1234") for i in others], 1)
    assert office.added(1) == mine[ROOM - 6 :]
    office.desk.receive_vectors([Vector(i, b"1234") for i in mine], 1)
    assert sorted(each.id for each in office.vectors) == texts.ids
    assert len(office.desk) == 0


def test_a_request_whose_choices_are_spread_ends_everywhere_with_one_runner() -> None:
    office = Offices(2)
    both = office.submit(count=2)
    mine, others = office.added(0), office.added(1)
    assert sorted([*mine, *others]) == [each.id for each in both.generations]
    office.bring(0, *mine)
    office.desk.close("It ended.", 1)
    assert sorted(office.errors()) == sorted([*mine, *others])
    assert office.sent[0] == [Abort(mine)]


def test_choices_beyond_the_room_follow_when_the_first_has_begun_again() -> None:
    office = Offices(1)
    many = office.submit(count=20)
    office.desk.close("It ended.")
    office.open(0)
    office.sent[0].clear()
    office.desk.close("It ended.")
    office.open(0)
    seen = office.added(0)
    for _ in range(20):
        office.finish(0, *(i for i in seen if i in many.open_ids))
        seen += office.added(0)
    assert sorted(seen) == [each.id for each in many.generations]


def test_cancelling_reaches_the_runner_that_has_it_alone() -> None:
    office = Offices(2)
    one, other = office.submit(), office.submit()
    ids = office.added(0), office.added(1)
    office.desk.cancel(one)
    office.desk.cancel(other)
    assert [office.sent[replica] for replica in range(2)] == [[Abort(each)] for each in ids]


def test_a_token_from_a_runner_that_has_not_got_the_sequence_is_garbage() -> None:
    office = Offices(2)
    office.submit()
    (mine,) = office.added(0) or office.added(1)
    holder = 0 if office.desk.posts[0].at_runner else 1
    with pytest.raises(Garbage):
        office.bring(1 - holder, mine)


def test_each_runner_is_silent_for_itself() -> None:
    office = Offices(2)
    office.submit()
    holder = 0 if office.desk.posts[0].at_runner else 1
    assert office.desk.silent_since(holder) == 0.0
    assert office.desk.silent_since(1 - holder) is None


def test_a_paused_desk_gives_no_runner_anything_though_one_is_gone() -> None:
    office = Offices(2)
    office.desk.pause(True)
    office.submit()
    office.desk.close("It ended.", 0)
    assert office.added(1) == []
    office.desk.pause(False)
    assert len(office.added(1)) == 1
