"""Helps schemathesis past the door: a random name is no model, and random objects are no messages.

Run by schemathesis itself, in its own process (SCHEMATHESIS_HOOKS).
"""

from __future__ import annotations

from typing import Any

import schemathesis

from tests.serving import MODEL

_MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Name the model that is served, and say something, where the body has any of that."""
    if isinstance(body, dict):
        if isinstance(body.get("model"), str):
            body["model"] = MODEL
        messages = body.get("messages")
        # Of two lists one stays as it is: what is wrong with it is for the server to say. Elsewhere the document
        # says what a message is, and a wrong one must stay wrong.
        if (
            context.operation.path == "/v1/chat/completions"
            and isinstance(messages, list)
            and messages
            and all(isinstance(message, dict) for message in messages)
            and len(str(messages)) % 2
        ):
            body["messages"] = _MESSAGES
    return body
