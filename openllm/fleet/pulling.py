"""Fetches weights in a child process, beside the event loop."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable

from openllm.errors import WeightsError
from openllm.weights.manifest import Weights
from openllm.weights.progress import Reporter
from openllm.weights.pull_messages import (
    Done,
    Failed,
    Note,
    Progress,
    PullRequest,
    as_error,
    decode_event,
    encode,
)
from openllm.weights.sizes import size_text

_LINE_BYTES = 1 << 20
Tell = Callable[[str, float | None], None]
"""Told what is being done, and the part of it that is behind us, 0 to 1, if that is known."""


async def pull(request: PullRequest, reporter: Reporter, progress: Tell) -> Weights:
    """Run one pull to its end; ``reporter`` is for the terminal, ``progress`` for the state that clients see.

    The child ends with this task. Raises the ``WeightsError`` that it met.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "openllm.weights.pull", stdin=PIPE, stdout=PIPE, limit=_LINE_BYTES
    )
    try:
        assert child.stdin is not None
        child.stdin.write(encode(request))
        return await _follow(child, _Relay(reporter, progress))
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def _follow(child: Process, relay: _Relay) -> Weights:
    assert child.stdout is not None
    async for line in child.stdout:
        match decode_event(line):
            case Done() as event:
                return event.weights
            case Failed() as event:
                raise as_error(event)
            case Progress() as event:
                relay.show(event)
            case Note() as event:
                relay.note(event.text)
    raise WeightsError(
        f"The process that fetched the weights ended without a result (exit status {await child.wait()}).",
        hint="Start again: what it has fetched is kept.",
    )


class _Relay:
    """Turns events back into calls of a reporter."""

    def __init__(self, reporter: Reporter, progress: Tell) -> None:
        self._reporter = reporter
        self._progress = progress
        self._shown: Progress | None = None

    def show(self, event: Progress) -> None:
        before = self._shown
        if before is None or before.label != event.label:
            self._reporter.start(event.total, event.label, event.done)
        else:
            self._reporter.advance(event.done - before.done)
        self._shown = event
        if event.done == event.total:
            self._reporter.finish()
        done, total = event.done, event.total
        part = done / total if total else None
        self._progress(f"getting the weights: {size_text(done)} of {size_text(total)}", part)

    def note(self, text: str) -> None:
        self._reporter.note(text)
        self._progress(text, None)
