"""Writes the JSON text of a call's arguments for formats that have another notation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from openllm.chat.parsing.incoming import Incoming, Steps
from openllm.chat.parsing.outgoing import Outgoing
from openllm.chat.tool_calls.schemas import argument_types, typed_value


class ArgumentWriter:
    """The arguments of the call that ``out`` has begun; ``schema`` is that of its parameters."""

    def __init__(self, out: Outgoing, schema: Mapping[str, Any]) -> None:
        self._out = out
        self._schema = schema
        self._first = True
        out.arguments("{")

    def key(self, name: str) -> None:
        """The next argument's name."""
        comma = "" if self._first else ", "
        self._first = False
        self._out.arguments(f"{comma}{_text(name)}: ")

    def value(self, source: Incoming, name: str, ends: tuple[str, ...]) -> Steps[str]:
        """Read the value as far as one of ``ends``, which is given ("" at the end of the text). Strings are passed
        on as they come, other values as a whole."""
        types = argument_types(self._schema, name)
        streams = types == {"string"}
        if streams:
            self._out.arguments('"')
        parts: list[str] = []
        while True:
            piece, end = yield from source.piece(ends)
            if streams:
                self._out.arguments(_text(piece)[1:-1])
            else:
                parts.append(piece)
            if end or not piece:
                break
        if end:
            self._out.arguments('"' if streams else _text(typed_value("".join(parts), types)))
        return end

    def close(self) -> None:
        """The call is complete."""
        self._out.arguments("}")
        self._out.end()


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
