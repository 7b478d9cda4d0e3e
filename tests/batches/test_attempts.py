"""When a line is tried again. The application is played here: it must fail in ways and as often as is said."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from openllm.batches import attempts
from openllm.batches.attempts import Attempts, Reply
from openllm.batches.lines import Line

GOOD = Reply(200, "req", b"{}")
BUSY = Reply(429, "req", b"{}", "overloaded")
AWAY = Reply(503, "req", b"{}", "runner_failed")
DIED = Reply(503, "req", b"{}", "runner_died")
BAD = Reply(400, "req", b"{}", "invalid_request")


class Application:
    """Answers each line with its replies, one after the other, the last one for ever."""

    def __init__(self, replies: dict[str, list[Reply]]) -> None:
        self.replies = replies
        self.asked: list[str] = []
        self.under_way = 0
        self.most_under_way = 0

    async def send(self, _: str, __: str, body: bytes) -> Reply:
        name = body.decode()
        self.asked.append(name)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(0.001)
        self.under_way -= 1
        replies = self.replies[name]
        return replies.pop(0) if len(replies) > 1 else replies[0]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between attempts."""
    monkeypatch.setattr(attempts, "_LONGEST_WAIT", 0.001)
    monkeypatch.setattr(attempts, "_LOOK_SECONDS", 0.001)


def line(name: str) -> Line:
    return Line(name, "POST", "/v1/completions", msgspec.Raw(name.encode()))


@pytest.mark.parametrize(
    ("replies", "final", "count"),
    [
        ([GOOD], GOOD, 1),
        ([BAD], BAD, 1),
        ([BUSY] * 50 + [GOOD], GOOD, 51),
        ([AWAY] * 5 + [GOOD], GOOD, 6),
        ([AWAY], AWAY, 10),
        ([DIED, DIED, GOOD], GOOD, 3),
        ([DIED], DIED, 3),
    ],
)
async def test_the_final_reply(replies: list[Reply], final: Reply, count: int) -> None:
    application = Application({"a": replies})
    made = Attempts(application.send, lambda _: True, 4)
    assert await made.answer("", "m", line("a")) == final
    assert len(application.asked) == count


async def test_what_ended_a_runner_is_tried_by_itself() -> None:
    application = Application({str(number): [DIED, DIED, GOOD] for number in range(8)})
    made = Attempts(application.send, lambda _: True, 8)
    replies = asyncio.gather(*(made.answer("", "m", line(str(number))) for number in range(8)))
    await asyncio.sleep(0)
    await asyncio.sleep(0.0005)
    application.most_under_way = 0
    assert await replies == [GOOD] * 8
    first, rest = application.asked[:8], application.asked[8:]
    assert sorted(first) == [str(number) for number in range(8)]
    assert len(rest) == 16


async def test_nothing_is_sent_before_the_engine_is_ready() -> None:
    application = Application({"a": [GOOD]})
    ready = False
    made = Attempts(application.send, lambda model: ready and model == "m", 4)
    answer = asyncio.create_task(made.answer("", "m", line("a")))
    await asyncio.sleep(0.02)
    assert application.asked == []
    ready = True
    assert await answer == GOOD
