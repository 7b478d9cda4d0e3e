"""What every engine refuses, whatever it runs: checked in ``add`` before anything is queued."""

from __future__ import annotations

from openllm.engines.base import Generation
from openllm.errors import ContextLengthExceeded, RequestError, UnsupportedParameter


def check_lengths(request: Generation, context: int) -> None:
    """Raise unless the prompt and the longest answer fit ``context`` tokens.

    Raises ``RequestError`` for an empty prompt or ``max_tokens`` below 1, ``ContextLengthExceeded`` else.
    """
    prompt, answer = len(request.prompt), request.sampling.max_tokens
    if not prompt:
        raise RequestError("The prompt is empty.", hint="Send at least one token.", param="prompt")
    if answer < 1:
        raise RequestError("max_tokens must be at least 1.", hint="Ask for 1 or more.", param="max_tokens")
    if prompt + answer > context:
        raise ContextLengthExceeded(
            f"{prompt} prompt tokens and {answer} for the answer exceed the context of {context} tokens.",
            hint="Shorten the prompt or lower max_tokens.",
            param="max_tokens" if prompt < context else "prompt",
        )


def check_ids(request: Generation, vocabulary: int) -> None:
    """Raise ``RequestError`` if a prompt id is outside ``range(vocabulary)``: an engine may crash on it."""
    if min(request.prompt) < 0 or max(request.prompt) >= vocabulary:
        raise RequestError(
            f"The prompt holds a token id outside 0..{vocabulary - 1}.",
            hint="Tokenize with the served model's own tokenizer.",
            param="prompt",
        )


def refuse_adapter(request: Generation) -> None:
    """Raise ``UnsupportedParameter`` for a LoRA adapter, on an engine that has none."""
    if request.adapter:
        raise UnsupportedParameter(
            f"This engine cannot apply the adapter {request.adapter!r}.",
            hint="Start with --backend vllm.",
            param="model",
        )


def refuse_images(request: Generation) -> None:
    """Raise ``UnsupportedParameter`` for images, on an engine that does not see."""
    if request.images:
        raise UnsupportedParameter(
            "This engine takes text only.", hint="Start with --backend vllm.", param="messages"
        )


def check_biases(request: Generation, vocabulary: int) -> None:
    """Raise ``RequestError`` if a biased id is outside ``range(vocabulary)``."""
    for token, _ in request.sampling.logit_bias:
        if not 0 <= token < vocabulary:
            raise RequestError(
                f"logit_bias names {token}, which is not a token id in 0..{vocabulary - 1}.",
                hint="Tokenize with the served model's own tokenizer.",
                param="logit_bias",
            )


def check_logprobs(request: Generation, most: int) -> None:
    """Raise ``RequestError`` if more than ``most`` likeliest tokens are asked for at a place."""
    for name in ("logprobs", "prompt_logprobs"):
        asked = getattr(request.sampling, name)
        if asked is not None and not 0 <= asked <= most:
            raise RequestError(f"{name} must be in 0..{most}.", hint="Ask for fewer.", param=name)
