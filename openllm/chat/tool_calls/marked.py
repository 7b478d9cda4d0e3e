"""Text with calls in it, each behind a mark."""

from __future__ import annotations

from collections.abc import Callable

from openllm.chat.parsing.incoming import Incoming, Steps
from openllm.chat.parsing.outgoing import Enough, Outgoing

ReadCall = Callable[[str], Steps[bool]]
"""Reads what stands behind a mark; False if it is no call after all."""


def marked_calls(
    source: Incoming,
    out: Outgoing,
    starts: tuple[str, ...],
    read: ReadCall,
    *,
    opening: tuple[str, ...] = (),
    closing: tuple[str, ...] = (),
    final: tuple[str, ...] = (),
) -> Steps[None]:
    """Read the rest of an answer: text, and a call behind each of ``starts``.

    What is no call after all is text, its mark included. ``opening`` marks stand around calls and are left out;
    so are ``closing`` ones behind the first call, and with a ``final`` one there the answer ends.
    """
    marks = (*starts, *opening, *closing, *final)
    while True:
        piece, mark = yield from source.piece(marks)
        if piece:
            out.text(piece)
        if mark in starts:
            source.record(mark)
            if (yield from read(mark)):
                source.forget()
            else:
                out.text(source.recorded())
        elif mark in final and out.calls:
            raise Enough
        elif mark:
            if mark not in opening and not out.calls:
                out.text(mark)
        elif not piece:
            return
