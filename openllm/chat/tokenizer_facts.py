"""What comes with a tokenizer besides its vocabulary: special tokens by their role, and chat templates."""

from __future__ import annotations

import msgspec


class TokenizerFacts(msgspec.Struct, frozen=True):
    """``end_ids`` are ids that the files say end a turn, eos among them; ``tool_template`` is the template to use
    when tools are given, None if the one template serves both."""

    bos: str | None = None
    eos: str | None = None
    end_ids: tuple[int, ...] = ()
    template: str | None = None
    tool_template: str | None = None
