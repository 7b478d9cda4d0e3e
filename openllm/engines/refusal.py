"""An error of the tree as the end of one sequence."""

from __future__ import annotations

from openllm.engines.base import Delta
from openllm.errors import OpenLLMError


def refusal(request_id: int, error: OpenLLMError) -> Delta:
    """The delta that ends a sequence with ``error``; the hint is part of its text."""
    text = error.message if error.hint is None else f"{error.message} {error.hint}"
    return Delta(request_id, [], "error", error=text, kind=type(error).__name__, param=error.param or "")
