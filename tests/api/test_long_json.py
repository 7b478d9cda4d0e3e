"""Texts of megabytes are read in pieces, and come out as they went in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from openllm.api.json_limits import JsonLimits
from openllm.api.long_json import read_json
from openllm.errors import RequestError

SIZE = 700_000
UNITS = ("a", "\n", '"', "\\", "\u00e9", "\U0001f999", "\u2028x", 'a"\\\U0001f999\u00e9\n')


def spans(body: bytes, piece: int = 65_536) -> list[tuple[int, int]]:
    limits = JsonLimits()
    for at in range(0, len(body), piece):
        limits.feed(body[at : at + piece])
    return limits.long_texts


def read(value: Any, *, escaped: bool, piece: int = 65_536) -> Any:
    body = json.dumps(value, ensure_ascii=escaped).encode()
    long_texts = spans(body, piece)
    assert long_texts, "nothing was long enough"
    return read_json(body, long_texts)


@pytest.mark.parametrize("escaped", [True, False])
@pytest.mark.parametrize("unit", UNITS)
def test_any_text_is_read_as_it_is(unit: str, escaped: bool) -> None:
    text = "x" + unit * SIZE
    assert read({"a": [1, {"b": text}], "c": text[3:], "d": "short"}, escaped=escaped) == {
        "a": [1, {"b": text}],
        "c": text[3:],
        "d": "short",
    }


@pytest.mark.parametrize("piece", [65_535, 65_521, 200_001])
def test_wherever_the_pieces_were_cut(piece: int) -> None:
    text = "".join(UNITS) * 60_000
    for before in range(6):
        assert read(["x" * before, text], escaped=True, piece=piece)[1] == text


def test_a_whole_body_may_be_a_text() -> None:
    assert read("a" * SIZE, escaped=True) == "a" * SIZE


@pytest.mark.parametrize("wrong", [rb"\x", rb"\ud800", b"\xff", b"\x01", rb"\ude00"])
@pytest.mark.parametrize("at", [0, SIZE // 2, SIZE])
def test_a_wrong_text_is_no_json(wrong: bytes, at: int) -> None:
    body = b'["%b%b%b"]' % (b"a" * at, wrong, b"a" * (SIZE - at))
    with pytest.raises(json.JSONDecodeError):
        read_json(body, spans(body))


def test_what_is_cut_short_is_no_json() -> None:
    body = b'["%b", "%b", ' % (b"a" * SIZE, b"b" * SIZE)
    with pytest.raises(json.JSONDecodeError):
        read_json(body, spans(body))


def test_a_long_key_is_refused() -> None:
    body = json.dumps({"a": {"k" * SIZE: 1}}).encode()
    with pytest.raises(RequestError, match="key"):
        read_json(body, spans(body))


def test_short_texts_are_left_to_the_parser() -> None:
    assert spans(json.dumps(["a" * 1000] * 1000).encode()) == []
