"""What is refused before it is parsed, and that nothing else is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openllm.api.json_limits import DEEPEST, MOST_GROUPS, MOST_KEYS, MOST_TEXTS, MOST_VALUES, JsonLimits
from openllm.errors import RequestError


def check(body: bytes, piece: int = 65536) -> JsonLimits:
    limits = JsonLimits()
    for start in range(0, len(body), piece):
        limits.feed(body[start : start + piece])
    return limits


def counted(value: Any) -> tuple[int, int, int, int]:
    """(commas, keys, groups, depth) of a parsed value."""
    if not isinstance(value, dict | list):
        return 0, 0, 0, 0
    inner = list(map(counted, value.values() if isinstance(value, dict) else value))
    commas = max(0, len(value) - 1) + sum(each[0] for each in inner)
    keys = (len(value) if isinstance(value, dict) else 0) + sum(each[1] for each in inner)
    return commas, keys, 1 + sum(each[2] for each in inner), 1 + max((each[3] for each in inner), default=0)


_TEXT = st.text(st.sampled_from("\",:[]{}\\NInu'aé\n\t😀 "), max_size=12)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(_TEXT, inner, max_size=5),
    max_leaves=30,
)


@given(_VALUES, st.booleans(), st.integers(1, 9))
def test_structure_is_counted_outside_strings_only_however_the_body_is_cut(
    value: Any, ascii_only: bool, piece: int
) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode()
    limits = check(body, piece)
    assert (limits.values, limits.keys, limits.groups) == counted(value)[:3]
    assert limits.depth == 0
    assert limits.deepest == counted(value)[3]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"[" + b"1," * (MOST_VALUES + 1) + b"1]", "values"),
        (b"[" + b'{"a":1},' * (MOST_KEYS + 1) + b"1]", "keys"),
        (b"[" + b"[]," * (MOST_GROUPS + 1) + b"1]", "lists"),
        (b"[]" * (MOST_GROUPS + 1), "lists"),
        (b'""' * (MOST_TEXTS + 1), "texts"),
        (b"[" * (DEEPEST + 1), "nested"),
        (b'{"a":' * (DEEPEST + 1), "nested"),
        (b'{"a":NaN}', "NaN"),
        (b"[-Infinity]", "NaN"),
        ('{"a":1}'.encode("utf-16"), "UTF-8"),
        ('{"a":1}'.encode("utf-32-le"), "UTF-8"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_costly_is_refused(body: bytes, word: str) -> None:
    with pytest.raises(RequestError, match=word):
        check(body)


def test_long_texts_are_not_counted() -> None:
    text = 'He said: "[1, 2], {NaN}", and left.\\' * 50_000
    limits = check(json.dumps({"messages": [{"role": "user", "content": text}]}).encode())
    assert (limits.values, limits.keys, limits.groups, limits.deepest) == (1, 3, 3, 3)
