"""What one request got: its times, its tokens, and whether it is right."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from benchmarks.sse import HEAD_END, Dechunker, EventParser, Head, parse_head

Read = tuple[float, bytes]
"""Bytes as they came from the socket, and when, in seconds of ``time.perf_counter``."""


@dataclass
class Answer:
    """Times in seconds of ``time.perf_counter``. ``times`` holds one entry for each event that carried
    text."""

    sent: float
    ended: float = 0.0
    times: list[float] = field(default_factory=list)
    text: str = ""
    finish: str | None = None
    tokens: int = 0
    prompt_tokens: int = 0
    error: str | None = None

    @property
    def ttft(self) -> float:
        """Seconds from sending the request to the first event with text."""
        return self.times[0] - self.sent

    @property
    def gaps(self) -> list[float]:
        """Seconds between events with text. An event may carry several tokens."""
        return [after - before for before, after in pairwise(self.times)]


class AnswerReader:
    """Builds an ``Answer`` from the reads of one connection, in order."""

    def __init__(self, sent: float) -> None:
        self.answer = Answer(sent)
        self.head: Head | None = None
        self.done = False
        self._raw = b""
        self._dechunker = Dechunker()
        self._events = EventParser()

    def feed(self, when: float, data: bytes) -> None:
        """Take one read. Raises ``ValueError`` if it is not HTTP, not JSON, or not a completion chunk."""
        self.answer.ended = when
        body = data if self.head else self._feed_head(data)
        if not body or self.head is None:
            return
        payload = self._dechunker.feed(body) if self.head.chunked else body
        if self.head.status != 200:
            self._raw += payload
            return
        for event in self._events.feed(payload):
            self._take(when, event)

    def _feed_head(self, data: bytes) -> bytes:
        self._raw += data
        head, found, body = self._raw.partition(HEAD_END)
        if not found:
            return b""
        self.head = parse_head(head)
        self._raw = b""
        return body

    def _take(self, when: float, event: bytes) -> None:
        if event == b"[DONE]":
            self.done = True
            return
        chunk = json.loads(event)
        if "error" in chunk:
            self.answer.error = f"error event: {chunk['error']}"
            return
        for choice in chunk.get("choices") or ():
            text = choice["delta"].get("content")
            if text:
                self.answer.times.append(when)
                self.answer.text += text
            self.answer.finish = choice.get("finish_reason") or self.answer.finish
        usage = chunk.get("usage")
        if usage:
            self.answer.tokens = usage["completion_tokens"]
            self.answer.prompt_tokens = usage["prompt_tokens"]

    def check(self, expected_tokens: int) -> Answer:
        """Close the answer: ``error`` says what is wrong with it, None that it is whole and of the right
        length."""
        answer = self.answer
        if answer.error is None:
            answer.error = self._fault(expected_tokens)
        return answer

    def _fault(self, expected_tokens: int) -> str | None:
        answer = self.answer
        if self.head is None:
            return "connection closed without an answer"
        if self.head.status != 200:
            return f"HTTP {self.head.status}: {self._raw[:200].decode(errors='replace')}"
        if not self.done:
            return f"stream ended early, after {len(answer.times)} events"
        if not answer.text:
            return "no text"
        if answer.tokens != expected_tokens:
            return f"{answer.tokens} tokens by usage, {expected_tokens} asked for"
        if answer.finish != "length":
            return f"finish_reason {answer.finish!r} instead of 'length'"
        return None


def read_answer(sent: float, reads: Sequence[Read], expected_tokens: int) -> Answer:
    """The answer to a request sent at ``sent``. Never raises: what can't be read is an ``error``."""
    reader = AnswerReader(sent)
    try:
        for when, data in reads:
            reader.feed(when, data)
    except (ValueError, KeyError, TypeError) as fault:
        reader.answer.error = f"unreadable answer: {type(fault).__name__}: {fault}"
    return reader.check(expected_tokens)
