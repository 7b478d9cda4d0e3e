"""What the dialects that are translated to chat share: building the chat request, and answering it.

A chat request that is built from another body fails with errors that name chat's fields; ``FieldNames`` puts the
names of the caller's own body in their place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from openllm.api.again import read_answer
from openllm.api.answer import Answer, ChoiceEvent, Usage
from openllm.api.error_body import from_validation
from openllm.api.parameters import ChatRequest
from openllm.api.pieces import Pieces
from openllm.api.readers import EndWaiter, Reading
from openllm.api.service import Service
from openllm.errors import ContextLengthExceeded, OpenLLMError, RequestError, quoted


class FieldNames:
    """Paths of a chat request (``messages[2].content``) by the paths of what they were made from."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = dict(names)

    def add(self, chat: str, own: str) -> None:
        """``chat`` and everything under it was made from ``own``."""
        self._names[chat] = own

    def rename(self, error: OpenLLMError) -> None:
        """Change an error's param, and the param in its message and hint, to the caller's name for it."""
        if error.param is None:
            return
        own = self.own(error.param)
        error.message = error.message.replace(error.param, own, 1)
        error.hint = error.hint and error.hint.replace(error.param, own, 1)
        error.param = own

    def add_tool(self, index: int, own: int, schema: str) -> None:
        """Chat's tool number ``index`` was made from number ``own``, which has no ``function`` around its fields, and
        calls its parameters ``schema``."""
        for chat, mine in ((f"tools.{index}", f"tools.{own}"), (f"tools[{index}]", f"tools[{own}]")):
            self.add(chat, mine)
            self.add(f"{chat}.function", mine)
            self.add(f"{chat}.function.parameters", f"{mine}.{schema}")

    def own(self, path: str) -> str:
        """The caller's path for a chat request's."""
        for end in range(len(path), 0, -1):
            if end == len(path) or path[end] in ".[":
                own = self._names.get(path[:end])
                if own is not None:
                    return own + path[end:]
        return path


def clients_tool(value: object, kind: str, instead: str) -> object:
    """``value`` if it is a tool that runs at the client's: of this ``kind``, or of none. Raises ``PydanticCustomError``
    that says what to do ``instead``."""
    given = value.get("type") if isinstance(value, dict) else None
    if isinstance(given, str) and given != kind:
        raise PydanticCustomError(
            "tool_type",
            "tools of the type {kind} do not run here; {instead}",
            {"kind": quoted(given), "instead": instead},
        )
    return value


class Translation:
    """A chat request, and what its fields are called by the caller."""

    def __init__(self, values: Mapping[str, Any], names: FieldNames) -> None:
        """Raises ``RequestError`` in the caller's names."""
        self.names = names
        try:
            self.chat = ChatRequest.model_validate(values)
        except ValidationError as error:
            told = from_validation(RequestValidationError(error.errors(), body=values))
            names.rename(told)
            raise told from None

    async def answer(
        self,
        service: Service,
        reader: Reading,
        submitted: Callable[[Usage], None] = lambda _: None,
        *,
        fit: bool = False,
    ) -> Usage:
        """Submit, and wait for the end; ``fit`` asks for less where the context leaves less than was asked for.

        ``submitted`` gets the usage before the first event, and again if an answer was lost before it; it grows with
        the answer. Raises what speaks against the request or ended the answer, in the caller's names. Cancelling it
        stops the generation.
        """
        try:
            await service.images.load(self.chat)
            await service.until_prompter()

            async def submit() -> Answer:
                answer = await self._submit(service, reader, fit=fit)
                submitted(answer.usage)
                return answer

            answer = await read_answer(service, submit, reader)
        except RequestError as error:
            self.names.rename(error)
            raise
        return answer.usage

    async def prompt_tokens(self, service: Service) -> int:
        """How long the prompt is in tokens, template included. Raises as ``answer`` does."""
        try:
            await service.images.load(self.chat)
            await service.until_prompter(engine=False)
            return await service.prompt_tokens(self.chat)
        except RequestError as error:
            self.names.rename(error)
            raise

    async def _submit(self, service: Service, reader: Reading, *, fit: bool) -> Answer:
        try:
            return await service.chat(self.chat, reader)
        except ContextLengthExceeded as error:
            if not fit or error.param != "max_tokens":
                raise
        return await service.chat(self.chat.model_copy(update={"max_completion_tokens": None}), reader)


class PieceReader(EndWaiter):
    """Keeps the pieces of one answer."""

    def __init__(self) -> None:
        super().__init__()
        self.forget()

    def forget(self) -> None:
        self.answer = Pieces()

    def read(self, events: list[ChoiceEvent]) -> None:
        for _, happened in events:
            self.answer.take(happened)
