"""An error of the tree as the end of one sequence or text."""

from __future__ import annotations

from openllm.engines.base import Delta
from openllm.engines.encoding import Vector
from openllm.errors import OpenLLMError


def refusal(request_id: int, error: OpenLLMError) -> Delta:
    """The delta that ends a sequence with ``error``; the hint is part of its text."""
    return Delta(
        request_id, [], "error", error=_told(error), kind=type(error).__name__, param=error.param or ""
    )


def encoding_refusal(request_id: int, error: OpenLLMError) -> Vector:
    """What takes the place of a text's vector, as ``refusal``."""
    return Vector(request_id, b"", _told(error), type(error).__name__, error.param or "")


def _told(error: OpenLLMError) -> str:
    return error.message if error.hint is None else f"{error.message} {error.hint}"
