"""Fills the engine's prefix cache after each of its starts: the prompts of a file are answered with one token each.

They are requests like a client's, so that the template renders them as it will render what clients send, but of the
background: they wait behind everyone's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
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
    """``prompts`` are bodies of chat requests; ``routes`` answers them, for each of ``services`` that generates. Raises
    ``UsageError`` for a prompt that is wrong in itself, and where no model generates."""

    def __init__(
        self,
        prompts: Sequence[dict[str, Any]],
        services: Iterable[Service],
        routes: ASGIApp,
        tell: Callable[[str], None],
    ) -> None:
        self._services = [each for each in services if each.task not in ENCODER_TASKS]
        if prompts and not self._services:
            raise UnsupportedOption(
                "What is served encodes texts: there is no prefix to keep.",
                hint="Leave --warm out.",
                param="warm",
            )
        self._prompts = [_checked(number, prompt) for number, prompt in enumerate(prompts, 1)]
        self._send = Dispatcher(routes).send
        self._tell = tell
        self._warmed: dict[Service, int | None] = {}  # the runner that has read them

    async def first(self) -> None:
        """Wait until each engine that is ready was warmed; not at all without prompts."""
        while any(map(self._is_cold, self._services)):  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(_LOOK_SECONDS)

    async def run(self) -> None:
        """Do it whenever there is an engine that was not warmed, for ever."""
        while self._prompts:
            for service in self._services:
                if self._is_cold(service):
                    runner = service.keeper.pid
                    await self._warm(service.names[0])
                    self._warmed[service] = runner
            await asyncio.sleep(_LOOK_SECONDS)

    def _is_cold(self, service: Service) -> bool:
        keeper = service.keeper
        return bool(self._prompts) and keeper.ready and keeper.pid != self._warmed.get(service)

    async def _warm(self, model: str) -> None:
        begun = time.monotonic()
        tokens = done = 0
        for number, prompt in enumerate(self._prompts, 1):
            body = msgspec.json.encode({**prompt, "model": model})
            reply = await self._send(_NOBODY, _PATH, body)
            if reply.status < 400:
                tokens += _prompt_tokens(reply)
                done += 1
            else:
                self._tell(f"warm: prompt {number} was refused: {_message(reply)}")
        self._tell(f"warm: {done} prompts, {tokens} tokens in {time.monotonic() - begun:.1f} s")


def _checked(number: int, prompt: dict[str, Any]) -> dict[str, Any]:
    body = {**prompt, "model": "", "max_tokens": 1, "stream": False}
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
    return body


def _prompt_tokens(reply: Reply) -> int:
    return int(msgspec.json.decode(reply.body)["usage"]["prompt_tokens"])


def _message(reply: Reply) -> str:
    return str(msgspec.json.decode(reply.body)["error"]["message"])
