"""JSON whose texts are read in pieces says what it says in one, wherever it is cut."""

from __future__ import annotations

import json
from typing import Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from openllm.api import json_limits, long_json
from openllm.api.json_limits import JsonLimits
from openllm.errors import RequestError
from tests.fuzz.budget import fuzz

LONG, PIECE = 24, 16  # bytes, where a server has 256 KiB
CHARACTERS = st.characters(exclude_categories=["Cs"])
ANY, KEYS = st.text(CHARACTERS, max_size=8), st.text(CHARACTERS, max_size=1)
UNITS = st.sampled_from(
    ["\n", '"', "\\", '\\"', "\u00e9", "\U0001f999", "\u2028", "\ud7ff", "[", "{", ",", ":", "a" * 30]
)
TEXTS = st.lists(ANY | UNITS, max_size=12).map("".join)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=4,
)


def read(body: bytes, cut: int) -> Any:
    with mock.patch.object(json_limits, "LONG_TEXT", LONG), mock.patch.object(long_json, "_PIECE", PIECE):
        limits = JsonLimits()
        for at in range(0, len(body), cut):
            limits.feed(body[at : at + cut])
        return long_json.read_json(body, limits.long_texts)


@fuzz
@given(value=VALUES, escaped=st.booleans(), cut=st.integers(1, 40))
def test_it_is_the_same_value(value: Any, escaped: bool, cut: int) -> None:
    assert read(json.dumps(value, ensure_ascii=escaped).encode(), cut) == value


@fuzz
@given(value=VALUES, cut=st.integers(1, 40), at=st.integers(0, 2000), byte=st.binary(max_size=2))
def test_what_is_broken_is_broken_in_pieces_too(value: Any, cut: int, at: int, byte: bytes) -> None:
    body = json.dumps(value).encode()
    at %= len(body)
    body = body[:at] + byte + body[at + 1 :]
    try:
        whole: Any = long_json.read_json(body)
    except json.JSONDecodeError:
        whole = json.JSONDecodeError
    try:
        assert read(body, cut) == whole
    except json.JSONDecodeError:
        assert whole is json.JSONDecodeError
    except RequestError:
        pass  # what is refused before it is parsed, and keys that would be read in pieces
