"""Pieces do not depend on how the events were split, and are framed properly."""

from __future__ import annotations

from hypothesis import given

from openllm.api.pieces import Closed, Grown, Opened, Pieces
from openllm.chat.events import Event, Finished, TextDelta, TextLogprobs, TokenLogprob, ToolCallDelta
from tests.api.happenings import ANSWER, answers


@given(answers())
def test_any_split_gives_the_same_pieces(answer: tuple[list[tuple[str, str]], list[Event]]) -> None:
    wholes, events = answer
    taken = Pieces()
    for happened in events:
        taken.take(happened)
    assert [(piece.kind, piece.text) for piece in taken.pieces] == wholes
    assert [piece.index for piece in taken.pieces] == list(range(len(wholes)))
    cut = events[-1] == Finished("length")
    assert [piece.complete for piece in taken.pieces] == [
        not cut or piece is not taken.pieces[-1] for piece in taken.pieces
    ]


@given(answers())
def test_each_piece_is_opened_then_grown_then_closed(
    answer: tuple[list[tuple[str, str]], list[Event]],
) -> None:
    taken = Pieces()
    open_piece = None
    texts: dict[int, str] = {}
    for happened in answer[1]:
        for step in taken.take(happened):
            if isinstance(step, Opened):
                assert open_piece is None
                open_piece = step.piece
                texts[open_piece.index] = ""
            elif isinstance(step, Grown):
                assert step.piece is open_piece
                texts[step.piece.index] += step.text
            else:
                assert isinstance(step, Closed)
                assert step.piece is open_piece
                open_piece = None
    assert open_piece is None
    assert texts == {piece.index: piece.text for piece in taken.pieces}


def test_calls_keep_their_ids_and_names() -> None:
    taken = Pieces()
    for happened in ANSWER:
        taken.take(happened)
    calls = [(p.call_id, p.name, p.text) for p in taken.pieces if p.kind == "call"]
    assert calls == [("call_a", "weather", '{"city":"Paris"}'), ("call_b", "time", "{}")]


def test_a_call_without_arguments_is_a_piece() -> None:
    taken = Pieces()
    taken.take(ToolCallDelta(0, "call_a", "now"))
    taken.take(Finished("tool_calls"))
    assert [(piece.name, piece.text, piece.complete) for piece in taken.pieces] == [("now", "", True)]


def test_logprobs_stay_with_their_text() -> None:
    token = TokenLogprob("Hi", b"Hi", -0.5)
    taken = Pieces()
    taken.take(TextDelta("Hi", (TextLogprobs(token, (token,)),)))
    steps = taken.take(TextDelta("", (TextLogprobs(token, ()),)))
    assert [len(step.logprobs) for step in steps if isinstance(step, Grown)] == [1]
    assert len(taken.pieces[0].logprobs) == 2
