"""``POST /tokenize`` and ``POST /detokenize``, in vLLM's shapes, for every model."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from openllm.api.parameters import Body
from openllm.api.prompter import Prompter
from openllm.api.served import Served
from openllm.errors import RequestError

router = APIRouter(tags=["Tokens"])
# More characters than these are tokenized in a thread, beside the event loop.
_QUICK_CHARACTERS = 10_000


class TokenizeRequest(Body):
    """``POST /tokenize``: ``prompt`` or ``messages``."""

    model: str | None = None
    prompt: str | None = None
    messages: Annotated[list[dict[str, Any]], Field(min_length=1)] | None = None
    add_special_tokens: bool | None = Field(
        default=None, description="Default: true for a prompt; a chat template writes them itself."
    )
    return_token_strs: bool | None = False


class DetokenizeRequest(Body):
    """``POST /detokenize``."""

    model: str | None = None
    tokens: list[Annotated[int, Field(ge=0)]]


@router.post("/tokenize", summary="A prompt's or a conversation's token ids")
async def tokenize(body: TokenizeRequest, service: Served) -> dict[str, Any]:
    if body.model is not None:
        service.check_name(body.model)
    if (body.prompt is None) == (body.messages is None):
        raise RequestError("Send either prompt or messages.", param="prompt")
    await service.until_prompter()
    prompter = service.prompter.result()
    if body.prompt is not None and len(body.prompt) > _QUICK_CHARACTERS:
        tokens = await asyncio.to_thread(_tokens, prompter, body)
    else:
        tokens = _tokens(prompter, body)
    texts = [prompter.tokenizer.token(each) for each in tokens] if body.return_token_strs else None
    return {"count": len(tokens), "max_model_len": service.context, "tokens": tokens, "token_strs": texts}


@router.post("/detokenize", summary="The text of token ids, special tokens included")
async def detokenize(body: DetokenizeRequest, service: Served) -> dict[str, str]:
    if body.model is not None:
        service.check_name(body.model)
    await service.until_prompter()
    tokenizer = service.prompter.result().tokenizer
    if max(body.tokens, default=0) >= tokenizer.vocabulary:
        raise RequestError(f"A token id is not in 0..{tokenizer.vocabulary - 1}.", param="tokens")
    return {"prompt": tokenizer.decode(body.tokens, skip_special_tokens=False)}


def _tokens(prompter: Prompter, body: TokenizeRequest) -> list[int]:
    if body.prompt is not None:
        return prompter.tokenizer.encode(body.prompt, add_special_tokens=body.add_special_tokens is not False)
    assert body.messages is not None
    if body.add_special_tokens:
        raise RequestError(
            "add_special_tokens is for prompts: a chat template writes them itself.",
            hint="Leave it out.",
            param="add_special_tokens",
        )
    return prompter.chat_prompt(body.messages)
