from __future__ import annotations

from pathlib import Path
from timeit import repeat

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from openllm.chat.detokenizer import MAX_PENDING, Detokenizer
from openllm.chat.tokenizer import ChatTokenizer, load_tokenizer
from openllm.errors import RequestError
from tests.chat.corpus import CORPUS
from tests.chat.gguf_bytes import gguf
from tests.chat.test_gguf_tokenizer import small

TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(CORPUS)


@pytest.fixture(scope="module")
def smollm2(smollm2_gguf: Path) -> ChatTokenizer:
    return load_tokenizer(smollm2_gguf)


@pytest.fixture(scope="module", params=["gpt-2", "llama-spm"])
def tokenizer(request: pytest.FixtureRequest, shared_folder: Path) -> ChatTokenizer:
    """One byte-level and one SentencePiece vocabulary, both with all bytes."""
    return load_tokenizer(shared_folder / "vocabs" / f"ggml-vocab-{request.param}.gguf")


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    """A SentencePiece vocabulary of single letters and bytes."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", *"abcdefg"]
    path = tmp_path_factory.mktemp("letters") / "letters.gguf"
    metadata = small(
        tokens=tokens,
        scores=[0.0] * len(tokens),
        token_type=[2, 3, 3, *([6] * 256), *([1] * 8)],
    )
    path.write_bytes(gguf(metadata))
    return load_tokenizer(path)


def encode(tokenizer: ChatTokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)


def split(ids: list[int], cuts: list[int]) -> list[list[int]]:
    places = sorted({min(cut, len(ids)) for cut in cuts})
    return [ids[start:end] for start, end in zip([0, *places], [*places, len(ids)], strict=True)]


def pieces(detokenizer: Detokenizer, pushes: list[list[int]]) -> list[str]:
    return [*(detokenizer.push(ids) for ids in pushes), detokenizer.finish()]


@given(text=TEXTS, cuts=st.lists(st.integers(0, 60)))
@example(text="\ufffd" * 200 + "🦙" + "\ufffd" * 100 + " a", cuts=[])
@example(text="🦙" * 3, cuts=[1, 2, 3, 4, 5, 6])
def test_any_split_gives_the_decoded_text(tokenizer: ChatTokenizer, text: str, cuts: list[int]) -> None:
    ids = encode(tokenizer, text)
    whole = tokenizer.decode(ids)
    assert "".join(pieces(Detokenizer(tokenizer, []), split(ids, cuts))) == whole
    assert "".join(pieces(Detokenizer(tokenizer, []), [[index] for index in ids])) == whole


@given(prompt=TEXTS, text=TEXTS)
@example(prompt="Paris", text="is")
@example(prompt="end \ufffd", text=" a")
def test_goes_on_as_after_the_whole_prompt(tokenizer: ChatTokenizer, prompt: str, text: str) -> None:
    before, ids = encode(tokenizer, prompt), encode(tokenizer, text)
    expected = tokenizer.decode(before + ids)[len(tokenizer.decode(before)) :]
    assert "".join(pieces(Detokenizer(tokenizer, before), [[index] for index in ids])) == expected


@given(ids=st.lists(st.integers(0, 31999)), cuts=st.lists(st.integers(0, 60)))
@example(ids=[231, 192, 163, 258, 29874], cuts=[])  # 你, then a byte that breaks it up
@example(ids=[258] * 300 + [29874], cuts=[])
def test_any_ids_in_any_split(tokenizer: ChatTokenizer, ids: list[int], cuts: list[int]) -> None:
    """Broken UTF-8 included: no text is lost or depends on the split."""
    one = "".join(pieces(Detokenizer(tokenizer, []), [ids]))
    assert "".join(pieces(Detokenizer(tokenizer, []), split(ids, cuts))) == one
    assert "".join(pieces(Detokenizer(tokenizer, []), [[index] for index in ids])) == one
    if "\ufffd" not in tokenizer.decode(ids):
        assert one == tokenizer.decode(ids)


def test_leading_space_of_sentencepiece(letters: ChatTokenizer) -> None:
    ids = encode(letters, "a b")
    assert letters.decode(ids) == "a b"
    assert "".join(pieces(Detokenizer(letters, []), [ids])) == "a b"
    assert "".join(pieces(Detokenizer(letters, encode(letters, "c")), [ids])) == " a b"
    assert "".join(pieces(Detokenizer(letters, [1]), [ids])) == "a b"
    assert "".join(pieces(Detokenizer(letters, encode(letters, "c") + [1] * 500), [ids])) == " a b"


def raw(*content: int) -> list[int]:
    """Byte tokens of ``letters``."""
    return [3 + byte for byte in content]


def test_characters_come_whole(letters: ChatTokenizer) -> None:
    llama = raw(*"🦙".encode())
    detokenizer = Detokenizer(letters, encode(letters, "a"))
    assert [detokenizer.push([index]) for index in llama + llama] == ["", "", "", "🦙"] * 2
    assert detokenizer.finish() == ""


def test_half_a_character_at_the_end(letters: ChatTokenizer) -> None:
    detokenizer = Detokenizer(letters, encode(letters, "a"))
    assert detokenizer.push(encode(letters, "b")[1:] + raw(0xF0, 0x9F)) == "b"
    assert set(detokenizer.finish()) == {"\ufffd"}


def test_broken_bytes_lose_nothing(letters: ChatTokenizer) -> None:
    """ByteFallback decodes a run of bytes as one: a broken one takes back what was sent before it."""
    ids = [*raw(*"你".encode()), *raw(0xFF), *encode(letters, "ab")]
    detokenizer = Detokenizer(letters, encode(letters, "a"))
    assert "".join(detokenizer.push([index]) for index in ids) == "你\ufffd ab"


def test_endless_replacement_characters_come_out(letters: ChatTokenizer) -> None:
    detokenizer = Detokenizer(letters, [])
    given_ = sum(len(detokenizer.push(raw(0xFF))) for _ in range(5 * MAX_PENDING))
    assert given_ > 4 * MAX_PENDING
    assert given_ + len(detokenizer.finish()) == 5 * MAX_PENDING


def test_tokens_without_text_are_not_kept(letters: ChatTokenizer) -> None:
    detokenizer = Detokenizer(letters, [])
    for _ in range(5 * MAX_PENDING):
        assert detokenizer.push([2]) == ""
    assert detokenizer.push(encode(letters, "ab")) == "ab"
    assert detokenizer.finish() == ""


def test_special_tokens(smollm2: ChatTokenizer) -> None:
    ids = encode(smollm2, "<|im_start|>Hi<|im_end|>")
    assert "".join(pieces(Detokenizer(smollm2, []), [ids])) == "Hi"
    shown = Detokenizer(smollm2, [], skip_special_tokens=False)
    assert "".join(pieces(shown, [ids])) == "<|im_start|>Hi<|im_end|>"


def stopped(
    tokenizer: ChatTokenizer, text: str, *stop: str, include: bool = False
) -> tuple[list[str], str | None]:
    detokenizer = Detokenizer(tokenizer, encode(tokenizer, "a"), stop, include_stop=include)
    ids = [index for letter in text for index in raw(*letter.encode())]
    return pieces(detokenizer, [[index] for index in ids]), detokenizer.stopped


def test_nothing_that_may_begin_a_stop_string_is_given(letters: ChatTokenizer) -> None:
    given_, met = stopped(letters, "xENxEND.", "END")
    assert given_ == ["x", "", "", "ENx", "", "", "", "", ""]
    assert met == "END"


def test_held_text_comes_at_the_end(letters: ChatTokenizer) -> None:
    assert stopped(letters, "abEN", "END") == (["a", "b", "", "", "EN"], None)


@pytest.mark.parametrize(
    ("text", "stop", "cut", "met"),
    [
        ("one two", ("two", "one"), "", "one"),
        ("xababc", ("abc",), "xab", "abc"),
        ("xaaab", ("aab",), "xa", "aab"),
        ("abcd", ("bcd", "c"), "ab", "c"),  # complete first
        ("abcd", ("c", "bc", "abc"), "", "abc"),  # complete together: the longest
        ("a\n\nb", ("\n\n",), "a", "\n\n"),
        ("你好🦙!", ("🦙",), "你好", "🦙"),
        ("nothing", ("x",), "nothing", None),
        ("END", ("END",), "", "END"),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_where_the_text_is_cut(
    letters: ChatTokenizer, text: str, stop: tuple[str, ...], cut: str, met: str | None, at_once: bool
) -> None:
    ids = raw(*text.encode())
    for include in (False, True):
        detokenizer = Detokenizer(letters, encode(letters, "a"), stop, include_stop=include)
        given_ = pieces(detokenizer, [ids] if at_once else [[index] for index in ids])
        assert "".join(given_) == cut + (met or "" if include else "")
        assert detokenizer.stopped == met


def test_nothing_after_a_stop_string(letters: ChatTokenizer) -> None:
    detokenizer = Detokenizer(letters, [], ("b",))
    assert detokenizer.push(raw(*b"abc")) == "a"
    assert detokenizer.push(raw(*b"abc")) == ""
    assert detokenizer.finish() == ""
    assert detokenizer.stopped == "b"


def cut_by_hand(text: str, stop: tuple[str, ...]) -> str:
    for end in range(len(text) + 1):
        for start in range(end):
            if text[start:end] in stop:
                return text[:start]
    return text


@given(
    text=st.text("ab🦙 ", max_size=30),
    stop=st.lists(st.text("ab🦙 ", min_size=1, max_size=4), max_size=3).map(tuple),
    cuts=st.lists(st.integers(0, 60)),
)
def test_stop_strings_in_any_split(
    letters: ChatTokenizer, text: str, stop: tuple[str, ...], cuts: list[int]
) -> None:
    ids = raw(*text.encode())
    detokenizer = Detokenizer(letters, encode(letters, "a"), stop)
    sent = ""
    for piece in pieces(detokenizer, split(ids, cuts)):
        sent += piece
        assert cut_by_hand(text, stop).startswith(sent)
    assert sent == cut_by_hand(text, stop)
    assert (detokenizer.stopped is None) == (not any(entry in text for entry in stop))


def test_empty_stop_string(letters: ChatTokenizer) -> None:
    with pytest.raises(RequestError, match="empty"):
        Detokenizer(letters, [], ("a", ""))


@pytest.mark.parametrize("stop", [(), ("\n\n", "User:", "END", "###")])
def test_cost_of_a_token(smollm2: ChatTokenizer, stop: tuple[str, ...]) -> None:
    """1 microsecond a token on a quiet machine; the limit leaves room for a busy one."""
    ids = [[index] for text in CORPUS[:4] for index in encode(smollm2, text)]

    def answer() -> None:
        push = Detokenizer(smollm2, ids[0], stop).push
        for index in ids:
            push(index)

    assert min(repeat(answer, number=1, repeat=30)) / len(ids) < 10e-6
