"""What comes with a tokenizer besides its vocabulary: special tokens by their role, and chat templates."""

from __future__ import annotations

import msgspec


class TokenizerFacts(msgspec.Struct, frozen=True):
    """``special_tokens`` are texts by their name in templates (``bos_token``, ``eos_token``, ``pad_token`` ...).

    ``end_ids`` are ids that the files say end a turn; ``tool_template`` is the template to use when tools are
    given, None if the one template serves both.
    """

    special_tokens: dict[str, str] = {}
    end_ids: tuple[int, ...] = ()
    template: str | None = None
    tool_template: str | None = None
