"""Answers are read with their times and checked for what was asked."""

from __future__ import annotations

import json

import pytest

from benchmarks.answer import Answer, read_answer

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def event(value: object) -> bytes:
    data = b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(data), data)


def text(content: str | None, finish: str | None = None) -> bytes:
    return event({"choices": [{"delta": {"content": content}, "finish_reason": finish}]})


USAGE = event({"choices": [], "usage": {"completion_tokens": 3, "prompt_tokens": 40}})
DONE = event(b"[DONE]") + b"0\r\n\r\n"
WHOLE = [
    (1.0, HEAD + text(None) + text("")),
    (1.5, text("a")),
    (1.75, text("b") + text("c")),
    (2.0, text("", "length") + USAGE + DONE),
]


def test_a_right_answer() -> None:
    answer = read_answer(0.5, WHOLE, expected_tokens=3)
    assert answer.error is None
    assert (answer.text, answer.tokens, answer.prompt_tokens, answer.finish) == ("abc", 3, 40, "length")
    assert answer.ttft == pytest.approx(1.0)
    assert answer.gaps == pytest.approx([0.25, 0.0])
    assert answer.ended == 2.0


def test_the_read_in_which_an_event_ends_gives_its_time() -> None:
    whole = b"".join(data for _, data in WHOLE)
    reads = [(float(place), whole[place : place + 1]) for place in range(len(whole))]
    answer = read_answer(0.0, reads, expected_tokens=3)
    assert answer.error is None
    assert len(answer.times) == 3
    assert answer.times[0] == whole.index(b'"a"') + len(b'"a"}, "finish_reason": null}]}\n\n') - 1


def error_of(*data: bytes, expected_tokens: int = 3) -> str:
    answer: Answer = read_answer(0.0, [(1.0, piece) for piece in data], expected_tokens)
    assert answer.error is not None
    return answer.error


def test_every_way_to_be_wrong_is_named() -> None:
    body = text("a") + text("b", "length")
    assert "without an answer" in error_of()
    assert "HTTP 503: loading" in error_of(
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 7\r\n\r\nloading"
    )
    assert "ended early, after 2 events" in error_of(HEAD + body)
    assert "no text" in error_of(HEAD + text("", "length") + USAGE + DONE)
    assert "3 tokens by usage, 4 asked for" in error_of(HEAD + body + USAGE + DONE, expected_tokens=4)
    assert "'stop' instead of 'length'" in error_of(HEAD + text("a", "stop") + USAGE + DONE)
    assert "boom" in error_of(HEAD + text("a") + event({"error": {"message": "boom"}}))
    assert "unreadable" in error_of(HEAD + event(b"{half"))
    assert "unreadable" in error_of(b"garbage\r\n\r\n")
