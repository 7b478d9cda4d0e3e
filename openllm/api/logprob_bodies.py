"""Logprobs as the API's bodies have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openllm.chat.events import TextLogprobs, TokenLogprob

Body = dict[str, Any]


def token_body(entry: TextLogprobs) -> Body:
    """One token, as chat and Responses have it."""
    return {**_token(entry.chosen), "top_logprobs": [_token(token) for token in entry.top]}


def chat_logprobs(entries: Sequence[TextLogprobs]) -> Body:
    """The ``logprobs`` of a chat choice."""
    return {"content": [token_body(entry) for entry in entries], "refusal": None}


def completion_logprobs(entries: Sequence[TextLogprobs]) -> Body:
    """The ``logprobs`` of a text completion's choice."""
    return {
        "tokens": [entry.chosen.token for entry in entries],
        "token_logprobs": [entry.chosen.logprob for entry in entries],
        "top_logprobs": [_by_text(entry) for entry in entries],
        "text_offset": [entry.offset for entry in entries],
    }


def _token(token: TokenLogprob) -> Body:
    return {"token": token.token, "bytes": list(token.bytes), "logprob": token.logprob}


def _by_text(entry: TextLogprobs) -> Body | None:
    """The chosen token is always there. Of tokens with one text the likeliest counts, so that the greatest value is
    that of the greedy token."""
    if entry.chosen.logprob is None:
        return None
    found: Body = {}
    for token in (*entry.top, entry.chosen):
        found.setdefault(token.token, token.logprob)
    return found
