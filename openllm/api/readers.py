"""The two readers of an answer: one writes it to a stream, one keeps it until it is complete."""

from __future__ import annotations

import asyncio
from typing import Protocol

from openllm.api.answer import ChoiceEvent, Reader
from openllm.api.event_stream import EventStream
from openllm.api.whole_calls import WholeCalls
from openllm.chat.events import Finished, ReasoningDelta, TextDelta, TextLogprobs, ToolCallDelta
from openllm.errors import OpenLLMError


class Writer(Protocol):
    """Makes the bytes of a stream out of events."""

    def write(self, events: list[ChoiceEvent]) -> bytes:
        """What the client gets for a batch of events."""


class Reading(Reader, Protocol):
    """A reader that can be waited for."""

    async def complete(self) -> None:
        """Wait for the end. Raises the error that it ended with."""

    def begin_again(self) -> bool:
        """Forget an answer that was lost, to read another in its place. False if somebody has been told of it."""


class EndWaiter:
    """The end of an answer, as something to wait for."""

    def __init__(self) -> None:
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def begin_again(self) -> bool:
        """See ``Reading``; for those whose answer nobody sees before its end."""
        self._done = asyncio.get_running_loop().create_future()
        self.forget()
        return True

    def forget(self) -> None:
        """Drop what was read."""

    def end(self, error: OpenLLMError | None) -> None:
        if self._done.done():
            return  # whoever waited has gone
        if error is None:
            self._done.set_result(None)
        else:
            self._done.set_exception(error)

    async def complete(self) -> None:
        """Wait for the end. Raises the error that it ended with."""
        await self._done


class StreamReader(EndWaiter):
    """Writes each event to a stream as it comes."""

    def __init__(self, stream: EventStream, writer: Writer) -> None:
        super().__init__()
        self._write = stream.write
        self._chunks = writer.write
        self._told = False

    def begin_again(self) -> bool:
        return not self._told and super().begin_again()

    def read(self, events: list[ChoiceEvent]) -> None:
        self._told = True
        self._write(self._chunks(events))


class WholeReader(EndWaiter):
    """Keeps the text, its logprobs, the reasoning, the calls and the end of each of ``count`` choices."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count
        self.forget()

    def forget(self) -> None:
        count = self._count
        self._texts: list[list[str]] = [[] for _ in range(count)]
        self._reasoning: list[list[str]] = [[] for _ in range(count)]
        self.calls = [WholeCalls() for _ in range(count)]
        self.logprobs: list[list[TextLogprobs]] = [[] for _ in range(count)]
        self.reasons: list[str | None] = [None] * count

    def text(self, index: int) -> str:
        """Of the choice ``index``."""
        return "".join(self._texts[index])

    def reasoning(self, index: int) -> str:
        """Of the choice ``index``."""
        return "".join(self._reasoning[index])

    def read(self, events: list[ChoiceEvent]) -> None:
        for index, happened in events:
            match happened:
                case TextDelta(text, logprobs):
                    self._texts[index].append(text)
                    if logprobs:
                        self.logprobs[index] += logprobs
                case ReasoningDelta(text):
                    self._reasoning[index].append(text)
                case ToolCallDelta():
                    self.calls[index].add(happened)
                case Finished(reason):
                    self.reasons[index] = reason
