"""Fills the engine's prefix cache after each of its starts: the prompts of a file are answered with one token each.

They are requests like a client's, so that the template renders them as it will render what clients send, but of the
background: they wait behind everyone's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from pydantic import ValidationError

from openllm.api.dispatch import Dispatcher
from openllm.api.parameters import ChatRequest
from openllm.engines.encoding import ENCODER_TASKS
from openllm.errors import UnsupportedOption, UsageError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from openllm.api.service import Service
    from openllm.batches.attempts import Reply

_LOOK_SECONDS = 0.05
_PATH = "/v1/chat/completions"
_NOBODY = ""


class Warmer:
    """``prompts`` are bodies of chat requests; ``routes`` answers them. Raises ``UsageError`` for one that is wrong in
    itself, and for a model that does not generate."""

    def __init__(
        self,
        prompts: Sequence[dict[str, Any]],
        service: Service,
        routes: ASGIApp,
        tell: Callable[[str], None],
    ) -> None:
        if prompts and service.task in ENCODER_TASKS:
            raise UnsupportedOption(
                f"{service.names[0]} encodes texts: there is no prefix to keep.",
                hint="Leave --warm out.",
                param="warm",
            )
        self._keeper = service.keeper
        self._bodies = [_body(number, prompt, service.names[0]) for number, prompt in enumerate(prompts, 1)]
        self._send = Dispatcher(routes).send
        self._tell = tell
        self._first = asyncio.Event()
        if not prompts:
            self._first.set()

    async def first(self) -> None:
        """Wait until an engine was warmed; not at all without prompts."""
        await self._first.wait()

    async def run(self) -> None:
        """Do it whenever there is an engine that was not warmed, for ever."""
        warmed = None
        while self._bodies:
            if self._keeper.ready and self._keeper.pid != warmed:
                warmed = self._keeper.pid
                await self._warm()
                self._first.set()
            await asyncio.sleep(_LOOK_SECONDS)

    async def _warm(self) -> None:
        begun = time.monotonic()
        tokens = done = 0
        for number, body in enumerate(self._bodies, 1):
            reply = await self._send(_NOBODY, _PATH, body)
            if reply.status < 400:
                tokens += _prompt_tokens(reply)
                done += 1
            else:
                self._tell(f"warm: prompt {number} was refused: {_message(reply)}")
        self._tell(f"warm: {done} prompts, {tokens} tokens in {time.monotonic() - begun:.1f} s")


def _body(number: int, prompt: dict[str, Any], model: str) -> bytes:
    body = {**prompt, "model": model, "max_tokens": 1, "stream": False}
    try:
        ChatRequest.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(
            f"Prompt {number} of --warm is no chat request: {where}: {first['msg']}.",
            hint='Write a list of messages a line, or {"messages": [...], "tools": [...]}.',
            param="warm",
        ) from error
    return msgspec.json.encode(body)


def _prompt_tokens(reply: Reply) -> int:
    return int(msgspec.json.decode(reply.body)["usage"]["prompt_tokens"])


def _message(reply: Reply) -> str:
    return str(msgspec.json.decode(reply.body)["error"]["message"])
