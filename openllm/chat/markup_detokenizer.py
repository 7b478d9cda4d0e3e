"""A detokenizer for formats whose marks are special tokens."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from openllm.chat.detokenizer import Detokenizer
from openllm.chat.tokenizer import ChatTokenizer


class MarkupDetokenizer(Detokenizer):
    """Leaves some special tokens in the text; ``dropped`` are the ids of the others."""

    __slots__ = ("_dropped",)

    def __init__(
        self,
        tokenizer: ChatTokenizer,
        prompt_ids: Sequence[int],
        stop: tuple[str, ...],
        dropped: Collection[int],
    ) -> None:
        super().__init__(tokenizer, prompt_ids, stop, skip_special_tokens=False)
        self._dropped = dropped

    def push(self, ids: Sequence[int]) -> str:
        return super().push([index for index in ids if index not in self._dropped])


def unmarked_specials(tokenizer: ChatTokenizer, marks: Collection[str]) -> frozenset[int] | None:
    """The ids of special tokens that are none of ``marks``; None if no mark is a special token."""
    specials = {index: token.content for index, token in tokenizer.backend.get_added_tokens_decoder().items()
                if token.special}  # fmt: skip
    dropped = frozenset(index for index, content in specials.items() if content not in marks)
    return dropped if len(dropped) < len(specials) else None
