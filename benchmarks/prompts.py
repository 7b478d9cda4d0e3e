"""Distinct prompts and the requests that carry them."""

from __future__ import annotations

import json
import random

_SUBJECTS = ("river", "market", "engine", "library", "garden", "harbour", "school", "mountain", "theatre")
_QUALITIES = ("quiet", "crowded", "ancient", "modern", "hidden", "famous", "narrow", "sunlit", "frozen")
_ACTS = ("describe", "explain", "compare", "summarise", "praise", "question", "imagine", "map", "plan")


def prompt(number: int) -> str:
    """A user message that differs from every other number's from its first words on.

    With SmolLM2's chat template a request comes to about 45 tokens, of which all share the template's 20 in front.
    """
    rng = random.Random(number)
    return (
        f"Number {number}: {rng.choice(_ACTS)} the {rng.choice(_QUALITIES)} {rng.choice(_SUBJECTS)} "
        f"near the {rng.choice(_QUALITIES)} {rng.choice(_SUBJECTS)}."
    )


def request(model: str, text: str, max_tokens: int, host: str) -> bytes:
    """A streaming, greedy chat request as it goes over the wire; its answer has exactly ``max_tokens``
    tokens."""
    body = json.dumps(
        {
            "model": model,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": max_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Accept: text/event-stream\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
