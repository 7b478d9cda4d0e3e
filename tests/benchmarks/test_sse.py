"""The hand-written parsers of the load generator, cut at every place a network may cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.sse import Dechunker, EventParser, parse_head


def chunked(*chunks: bytes) -> bytes:
    framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return framed + b"0\r\n\r\n"


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[low:high] for low, high in pairwise(edges)]


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=40), max_size=5),
    places=st.lists(st.integers(0, 500), max_size=8),
)
def test_dechunker_gives_back_the_payload_however_it_is_cut(chunks: list[bytes], places: list[int]) -> None:
    dechunker = Dechunker()
    payload = b"".join(dechunker.feed(piece) for piece in cut(chunked(*chunks), places))
    assert payload == b"".join(chunks)
    assert dechunker.ended


def test_dechunker_skips_chunk_extensions_and_refuses_what_is_no_size() -> None:
    assert Dechunker().feed(b"3;name=value\r\nabc\r\n") == b"abc"
    with pytest.raises(ValueError, match="invalid literal"):
        Dechunker().feed(b"{not a size}\r\n")


@given(places=st.lists(st.integers(0, 200), max_size=8))
def test_events_come_out_whole_however_they_are_cut(places: list[int]) -> None:
    stream = b': keep-alive\n\ndata: {"a": 1}\n\nevent: x\r\ndata:two\r\ndata: lines\r\n\r\ndata: [DONE]\n\n'
    parser = EventParser()
    events = [event for piece in cut(stream, places) for event in parser.feed(piece)]
    assert events == [b'{"a": 1}', b"two\nlines", b"[DONE]"]


def test_an_event_without_its_empty_line_is_not_an_event() -> None:
    assert EventParser().feed(b"data: half\n") == []


def test_head() -> None:
    head = parse_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nX: a:b")
    assert (head.status, head.chunked, head.length) == (200, True, None)
    assert head.headers[b"x"] == b"a:b"
    with pytest.raises(ValueError, match="not an HTTP answer"):
        parse_head(b"garbage")
