"""Logprobs of an answer that may begin with reasoning: those of its content, however it comes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from openllm.api.token_teller import TokenTeller
from openllm.chat.answer_format import AnswerFormat
from openllm.chat.detokenizer import Detokenizer
from openllm.chat.events import Event, ReasoningDelta, TextDelta, TextLogprobs
from openllm.chat.token_texts import TokenTexts
from openllm.chat.tokenizer import ChatTokenizer, load_tokenizer
from openllm.engines.base import Delta
from tests.chat.test_detokenizer import encode, split

THINK = AnswerFormat(reasoning="think")
PIECES = ("<think>", "</think>", "<th", "</thi", " ", "\n\n", "Hello", " 😀", "é", " world", "x" * 90)


@pytest.fixture(scope="module")
def tokenizer(smollm2_gguf: Path) -> ChatTokenizer:
    return load_tokenizer(smollm2_gguf)


@pytest.fixture(scope="module")
def texts(tokenizer: ChatTokenizer) -> TokenTexts:
    return TokenTexts(tokenizer.backend)


def tell(
    tokenizer: ChatTokenizer, texts: TokenTexts, pushes: list[list[int]], prompt: str = ""
) -> tuple[str, str, list[TextLogprobs]]:
    """Content, reasoning, and the logprobs of the content."""
    parser = THINK.parser({}, prompt)
    teller = TokenTeller(Detokenizer(tokenizer, tokenizer.anchor), texts, parser)
    events: list[Event] = []
    for ids in pushes:
        events += teller.take(Delta(1, ids, logprobs=[[(index, -0.5)] for index in ids]))
    events += teller.finish()
    content = [happened for happened in events if isinstance(happened, TextDelta)]
    thoughts = [happened.text for happened in events if isinstance(happened, ReasoningDelta)]
    told = [entry for happened in content for entry in happened.logprobs]
    return "".join(happened.text for happened in content), "".join(thoughts), told


@given(
    pieces=st.lists(st.sampled_from(PIECES), max_size=12),
    cuts=st.lists(st.integers(0, 60)),
    prompt=st.sampled_from(["", "<think>\n"]),
)
@example(pieces=["<think>", "x" * 90, "</think>", "\n\n", "Hello", " 😀"], cuts=[], prompt="")
@example(pieces=["<think>", "</think>", " 😀"], cuts=[], prompt="")
@example(pieces=["x" * 90, "</thi", "x", "</think>", "Hello"], cuts=[], prompt="<think>\n")
def test_the_tokens_told_are_those_of_the_content(
    tokenizer: ChatTokenizer, texts: TokenTexts, pieces: list[str], cuts: list[int], prompt: str
) -> None:
    ids = encode(tokenizer, "".join(pieces))
    content, reasoning, told = tell(tokenizer, texts, split(ids, cuts), prompt)
    assert (content, reasoning, told) == tell(tokenizer, texts, [[index] for index in ids], prompt)
    spelled = b"".join(entry.chosen.bytes for entry in told)
    assert spelled.endswith(content.encode())
    # The first token may have begun before the content; no other has.
    assert len(spelled) - len(content.encode()) < (len(told[0].chosen.bytes) if told else 1)
    assert bool(told) == bool(content)
    if not reasoning and "think>" not in prompt and "<think>" not in pieces:
        assert len(told) == len(ids)
