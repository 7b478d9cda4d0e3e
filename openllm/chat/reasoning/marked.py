"""Reasoning at the beginning of an answer, between two marks."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from openllm.chat.parsing.incoming import Incoming, Steps
from openllm.chat.parsing.outgoing import Outgoing


class ReasoningMarks(msgspec.Struct, frozen=True):
    """Texts that begin and end reasoning; the first of each is the usual one."""

    starts: tuple[str, ...]
    ends: tuple[str, ...]

    def opened_by(self, prompt: str) -> bool:
        """Does the prompt end with the beginning of reasoning, so that the answer is within it?"""
        return prompt.rstrip().endswith(self.starts)


REASONING_MARKS: Mapping[str, ReasoningMarks] = {
    # DeepSeek R1 and V3.1, Qwen3, QwQ, GLM, SmolLM3 and most others.
    "think": ReasoningMarks(("<think>",), ("</think>",)),
    # mistralai/mistral-common: Magistral, Ministral 3.
    "mistral": ReasoningMarks(("[THINK]",), ("[/THINK]",)),
    # ibm-granite/granite-3.2-8b-instruct, the model card.
    "granite": ReasoningMarks(
        ("Here is my thought process:", "Here's my thought process:"),
        ("Here is my response:", "Here's my response:"),
    ),
    # google/gemma-4-31B-it, the chat template.
    "gemma": ReasoningMarks(("<|channel>thought",), ("<channel|>",)),
}
"""By their names in recipes."""


def marked_reasoning(source: Incoming, out: Outgoing, marks: ReasoningMarks, *, opened: bool) -> Steps[None]:
    """Read reasoning if there is some; what follows is the answer, which is left to be read.

    ``opened``: the prompt ends within it.
    """
    if opened:
        out.begin_thought()
    source.record()
    yield from source.space()
    start = yield from source.literal(*marks.starts)
    before = source.recorded()
    if not start and not opened:
        out.text(before)
        return
    out.begin_thought()
    if not start:
        out.thought(before)
    while True:
        piece, end = yield from source.piece(marks.ends)
        out.thought(piece)
        if end or not piece:
            out.end_thought()
            return
