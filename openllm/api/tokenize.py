"""``POST /tokenize`` and ``POST /detokenize``, in vLLM's shapes, for every model."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from openllm.api.documented import Detokenized, Tokens
from openllm.api.parameters import MOST_TOOLS, Body, ChatRequest, FunctionTool
from openllm.api.prompter import Prompter
from openllm.api.served import Served
from openllm.api.service import Service
from openllm.api.side_lane import aside
from openllm.api.strict_json import StrictJsonRoute
from openllm.errors import RequestError, UnsupportedParameter

router = APIRouter(route_class=StrictJsonRoute, tags=["Tokens"])
_PART = 50_000  # of a list that is written in one call, which keeps the interpreter for a millisecond
_LONGEST_TEXT = 4_000_000
"""Characters of a prompt: they take some seconds, and other large requests wait."""
_OF_MESSAGES = ("tools", "chat_template_kwargs", "add_generation_prompt", "continue_final_message")


class TokenizeRequest(Body):
    """``POST /tokenize``: ``prompt``, or ``messages`` and what goes with them in chat."""

    model: str | None = None
    prompt: str | None = None
    messages: Annotated[list[dict[str, Any]], Field(min_length=1, fail_fast=True)] | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=MOST_TOOLS)] | None = None
    chat_template_kwargs: dict[str, Any] | None = Field(
        default=None, description="Switches of the model's chat template."
    )
    add_generation_prompt: bool | None = Field(
        default=None, description="Begin a new turn. Default: unless continue_final_message."
    )
    continue_final_message: bool | None = Field(
        default=False, description="Go on with the last message, an assistant's."
    )
    add_special_tokens: bool | None = Field(
        default=None, description="Default: true for a prompt; a chat template writes them itself."
    )
    return_token_strs: bool | None = False

    def check(self) -> None:
        """Raise ``RequestError`` for fields that do not go together, and a text that is too long."""
        if self.prompt is not None and len(self.prompt) > _LONGEST_TEXT:
            raise RequestError(
                f"The prompt has more than {_LONGEST_TEXT} characters.", hint="Split it.", param="prompt"
            )
        if (self.prompt is None) == (self.messages is None):
            raise RequestError("Send either prompt or messages.", param="prompt")
        if self.messages is not None and self.add_special_tokens:
            raise RequestError(
                "add_special_tokens is for prompts: a chat template writes them itself.",
                hint="Leave it out.",
                param="add_special_tokens",
            )
        for name in _OF_MESSAGES if self.messages is None else ():
            if getattr(self, name):
                raise RequestError(f"{name} is for messages.", hint="Leave it out.", param=name)


class DetokenizeRequest(Body):
    """``POST /detokenize``."""

    model: str | None = None
    tokens: Annotated[list[Annotated[int, Field(ge=0)]], Field(fail_fast=True)]


@router.post(
    "/tokenize",
    summary="A prompt's or a conversation's token ids",
    response_class=JSONResponse,
    responses={200: {"model": Tokens}},
)
async def tokenize(body: TokenizeRequest, models: Served) -> Response:
    service = models.find(body.model)
    body.check()
    await service.until_prompter(engine=False)
    prompter = service.prompter.result()
    chat = None if body.messages is None else await _chat(body, body.messages, service)

    def answer() -> Response:
        tokens = _tokens(prompter, body) if chat is None else prompter.chat_prompt(chat).ids
        texts = [prompter.tokenizer.token(each) for each in tokens] if body.return_token_strs else None
        head = {"count": len(tokens), "max_model_len": service.context}
        return _json({**head, "tokens": _list(tokens), "token_strs": None if texts is None else _list(texts)})

    return await aside(answer)


@router.post(
    "/detokenize",
    summary="The text of token ids, special tokens included",
    response_class=JSONResponse,
    responses={200: {"model": Detokenized}},
)
async def detokenize(body: DetokenizeRequest, models: Served) -> Response:
    service = models.find(body.model)
    await service.until_prompter(engine=False)
    tokenizer = service.prompter.result().tokenizer

    def answer() -> Response:
        if max(body.tokens, default=0) >= tokenizer.vocabulary:
            raise RequestError(f"A token id is not in 0..{tokenizer.vocabulary - 1}.", param="tokens")
        return _json({"prompt": tokenizer.decode(body.tokens, skip_special_tokens=False)})

    return await aside(answer)


async def _chat(body: TokenizeRequest, messages: list[dict[str, Any]], service: Service) -> ChatRequest:
    """The conversation as chat would be asked. Raises ``RequestError``."""
    request = ChatRequest(
        model=body.model or service.names[0],
        messages=messages,
        tools=body.tools,
        chat_template_kwargs=body.chat_template_kwargs,
        add_generation_prompt=body.add_generation_prompt,
        continue_final_message=body.continue_final_message,
    )
    await service.images.load(request)
    if request.images:
        raise UnsupportedParameter(
            "What tokens an image becomes is known to the engine only.",
            hint="Leave the images out, or ask for one token of an answer and read its usage.",
            param="messages",
        )
    return request


def _tokens(prompter: Prompter, body: TokenizeRequest) -> list[int]:
    assert body.prompt is not None
    return prompter.tokenizer.encode(body.prompt, add_special_tokens=body.add_special_tokens is not False)


def _json(body: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")


def _list(values: list[Any]) -> msgspec.Raw:
    """A list as JSON, written part by part."""
    parts = [msgspec.json.encode(values[at : at + _PART])[1:-1] for at in range(0, len(values), _PART)]
    return msgspec.Raw(b"[%b]" % b",".join(parts))
