"""Which tokens are told with which text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openllm.chat.detokenizer import Detokenizer
from openllm.chat.events import TextLogprobs
from openllm.chat.scored_text import ScoredText, scored_prompt
from openllm.chat.token_texts import LOWEST, TokenTexts
from openllm.chat.tokenizer import ChatTokenizer, load_tokenizer
from tests.chat.corpus import CORPUS
from tests.chat.test_detokenizer import encode, split

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1) | st.sampled_from(CORPUS)


@pytest.fixture(scope="module")
def smollm2(smollm2_gguf: Path) -> ChatTokenizer:
    return load_tokenizer(smollm2_gguf)


@pytest.fixture(scope="module", params=["gpt-2", "llama-spm"])
def tokenizer(request: pytest.FixtureRequest, shared_folder: Path) -> ChatTokenizer:
    """One byte-level and one SentencePiece vocabulary, both with all bytes; SmolLM2's has not all."""
    return load_tokenizer(shared_folder / "vocabs" / f"ggml-vocab-{request.param}.gguf")


@pytest.fixture(scope="module")
def texts(smollm2: ChatTokenizer) -> TokenTexts:
    return TokenTexts(smollm2.backend)


def told(
    tokenizer: ChatTokenizer,
    texts: TokenTexts,
    pushes: list[list[int]],
    stop: tuple[str, ...] = (),
) -> tuple[str, list[TextLogprobs]]:
    scored = ScoredText(Detokenizer(tokenizer, tokenizer.anchor, stop), texts)
    deltas = [scored.push(ids, [[(index, -0.5), (0, -1.0)] for index in ids]) for ids in pushes]
    deltas.append(scored.finish())
    return "".join(delta.text for delta in deltas), [entry for delta in deltas for entry in delta.logprobs]


@given(text=TEXTS, cuts=st.lists(st.integers(0, 60)))
def test_the_bytes_of_the_tokens_are_the_text(tokenizer: ChatTokenizer, text: str, cuts: list[int]) -> None:
    ids = encode(tokenizer, text)
    said, entries = told(tokenizer, TokenTexts(tokenizer.backend), split(ids, cuts))
    assert len(entries) == len(ids)
    assert b"".join(entry.chosen.bytes for entry in entries).decode() == said


@given(
    text=TEXTS,
    cuts=st.lists(st.integers(0, 60)),
    stops=st.lists(st.sampled_from(["e", " a", "th", "the", "\n", "é", "ing "]), max_size=3),
)
def test_it_does_not_depend_on_how_the_ids_were_split(
    tokenizer: ChatTokenizer, text: str, cuts: list[int], stops: list[str]
) -> None:
    ids, stop, texts = encode(tokenizer, text), tuple(stops), TokenTexts(tokenizer.backend)
    said, entries = told(tokenizer, texts, split(ids, cuts), stop)
    assert (said, entries) == told(tokenizer, texts, [[index] for index in ids], stop)
    assert entries == told(tokenizer, texts, [ids])[1][: len(entries)]
    if len(entries) < len(ids):  # a stop string cut it
        assert all(entry.offset < len(said) for entry in entries)
        assert b"".join(entry.chosen.bytes for entry in entries).startswith(said.encode())


def test_tokens_come_with_the_first_of_their_text(smollm2: ChatTokenizer, texts: TokenTexts) -> None:
    ids = encode(smollm2, "one two three")
    scored = ScoredText(Detokenizer(smollm2, smollm2.anchor, (" two four",)), texts, offset=100)
    deltas = [scored.push([index], [[(index, -0.5)]]) for index in ids]
    assert [(delta.text, len(delta.logprobs)) for delta in deltas] == [
        ("one", 1),
        ("", 0),  # " two" may be the beginning of the stop string
        (" two three", 2),
    ]
    offsets = [entry.offset for delta in deltas for entry in delta.logprobs]
    assert offsets == [100, 103, 107]


def test_half_characters_are_told_when_they_are_whole(smollm2: ChatTokenizer, texts: TokenTexts) -> None:
    ids = encode(smollm2, "a😀!")
    scored = ScoredText(Detokenizer(smollm2, smollm2.anchor), texts)
    deltas = [scored.push([index], [[(index, -0.5)]]) for index in ids]
    smile = next(delta for delta in deltas if "😀" in delta.text)
    assert len(smile.logprobs) > 1
    assert b"".join(entry.chosen.bytes for entry in smile.logprobs) == "😀".encode()
    assert {entry.offset for entry in smile.logprobs} == {1}
    assert smile.logprobs[0].chosen.token.startswith("bytes:\\xf0")


def test_special_tokens_have_a_name_and_no_bytes(smollm2: ChatTokenizer, texts: TokenTexts) -> None:
    end = texts.token(smollm2.stop_ids[0], float("-inf"))
    assert (end.bytes, end.logprob) == (b"", LOWEST)
    assert end.token.startswith("<|")
    assert texts.token(smollm2.vocabulary + 7, -1.0).token == f"token_id:{smollm2.vocabulary + 7}"
    assert len({texts.token(index, 0.0).token for index in range(smollm2.vocabulary)}) == smollm2.vocabulary


# Behind a U+FFFD that was written as such the detokenizer waits, and offsets are those of what was certain.
@given(text=TEXTS.filter(lambda text: "\ufffd" not in text))
def test_a_prompt_is_told_as_a_whole(tokenizer: ChatTokenizer, text: str) -> None:
    ids, texts = encode(tokenizer, text), TokenTexts(tokenizer.backend)
    written = tokenizer.decode(ids)
    delta = scored_prompt(tokenizer, texts, ids, written, [[(index, -0.5)] for index in ids[1:]])
    assert delta.text == written
    first, *rest = delta.logprobs
    assert (first.chosen.logprob, first.top, first.offset) == (None, (), 0)
    for entry in rest:
        if not entry.chosen.token.startswith("bytes:"):
            piece = entry.chosen.bytes.decode()
            # SentencePiece's first space is not part of a text.
            assert written.startswith((piece, piece[not entry.offset :]), entry.offset)
