"""Calls of a whole answer, put together from their parts."""

from __future__ import annotations

from typing import Any

from openllm.chat.events import ToolCallDelta


class WholeCalls:
    """The calls of one answer, in order."""

    def __init__(self) -> None:
        self._heads: list[ToolCallDelta] = []
        self._arguments: list[list[str]] = []

    def add(self, part: ToolCallDelta) -> None:
        """Take the next part."""
        if part.id:
            self._heads.append(part)
            self._arguments.append([])
        else:
            self._arguments[part.index].append(part.arguments)

    def body(self) -> list[dict[str, Any]]:
        """The ``tool_calls`` of a message."""
        return [
            {
                "id": head.id,
                "type": "function",
                "function": {"name": head.name, "arguments": "".join(arguments)},
            }
            for head, arguments in zip(self._heads, self._arguments, strict=True)
        ]
