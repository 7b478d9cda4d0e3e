"""Build a tokenizer from a GGUF header, without torch or transformers.

A GGUF holds a vocabulary, merges or scores, and the name of a pre-tokenizer. The file was made for llama.cpp,
so where transformers' own conversion of a GGUF falls short of the model's tokenizer (it leaves out some
pre-tokenizers and the leading space), llama.cpp's reading is followed; its golden tests were made with the
original tokenizers.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, TypeVar

import msgspec
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, processors
from tokenizers.models import BPE

from openllm.chat.pretokenizers import KINDS, BpeKind, pre_tokenizer
from openllm.chat.tokenizer_facts import TokenizerFacts
from openllm.errors import CorruptFile, UnsupportedOption

SPACE = "\u2581"
"""SentencePiece's spelling of a space."""

T = TypeVar("T")


class TokenType(IntEnum):
    """``tokenizer.ggml.token_type``."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class Vocabulary(msgspec.Struct, frozen=True):
    """The tokenizer keys of a GGUF header, checked."""

    model: str
    pre: str
    architecture: str
    name: str
    tokens: list[str]
    types: list[int]
    scores: list[float]
    merges: list[tuple[str, str]]
    metadata: dict[str, object]

    def flag(self, key: str, default: bool) -> bool:
        return bool(_of_type(self.metadata, f"tokenizer.ggml.{key}", bool, default))

    def special_id(self, key: str) -> int | None:
        """The id in ``tokenizer.ggml.{key}_token_id``; None if there is none or no such token."""
        index = _of_type(self.metadata, f"tokenizer.ggml.{key}_token_id", int, -1)
        return index if 0 <= index < len(self.tokens) else None

    def special(self, key: str) -> str | None:
        """The text of that token."""
        index = self.special_id(key)
        return None if index is None else self.tokens[index]


def facts(source: Vocabulary) -> TokenizerFacts:
    """Special tokens and templates of the file."""
    metadata = source.metadata
    roles = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    named = {name: source.special(key) for name, key in roles.items()}
    ends = [source.special_id(key) for key in ("eos", "eot", "eom")]
    return TokenizerFacts(
        special_tokens={name: token for name, token in named.items() if token is not None},
        end_ids=tuple(index for index in ends if index is not None),
        template=_of_type(metadata, "tokenizer.chat_template", str, "") or None,
        tool_template=_of_type(metadata, "tokenizer.chat_template.tool_use", str, "") or None,
    )


def vocabulary(metadata: dict[str, object]) -> Vocabulary:
    """Take the tokenizer out of a header that was read with its arrays. Raises ``CorruptFile``."""
    tokens = _array(metadata, "tokens", str)
    if not tokens:
        raise CorruptFile("The GGUF file has no vocabulary.", hint="Use a file that holds a tokenizer.")
    tokens = [token or f"[EMPTY_{index}]" for index, token in enumerate(tokens)]
    if len(set(tokens)) != len(tokens):
        raise CorruptFile("The GGUF file's vocabulary holds a token twice.", hint="Convert the model again.")
    types = _array(metadata, "token_type", int) or [int(TokenType.NORMAL)] * len(tokens)
    scores = _array(metadata, "scores", float)
    if len(types) != len(tokens) or (scores and len(scores) != len(tokens)):
        raise CorruptFile(
            "The GGUF file's token types or scores are not as many as its tokens.",
            hint="Fetch the file again.",
        )
    return Vocabulary(
        model=_of_type(metadata, "tokenizer.ggml.model", str, ""),
        pre=_of_type(metadata, "tokenizer.ggml.pre", str, "default"),
        architecture=_of_type(metadata, "general.architecture", str, ""),
        name=_of_type(metadata, "general.name", str, ""),
        tokens=tokens,
        types=types,
        scores=scores,
        merges=[_pair(merge) for merge in _array(metadata, "merges", str)],
        metadata=metadata,
    )


def build(source: Vocabulary) -> Tokenizer:
    """Build the tokenizer; ``add_special_tokens`` then adds bos and eos as the file says.

    Raises ``UnsupportedOption`` for a kind of tokenizer that is not known here and ``CorruptFile`` if merges
    and vocabulary do not fit. Blocks for 0.1 to 1 s, by the size of the vocabulary.
    """
    if source.model == "gpt2":
        tokenizer = _byte_level(source, _kind(source))
        add_bos = _kind(source).add_bos
    elif source.model in ("llama", "gemma4"):
        source = _respell_spaces(source)
        tokenizer = _sentencepiece(source)
        add_bos = True
    else:
        raise UnsupportedOption(
            f"The GGUF file has a tokenizer of the kind {source.model!r}, which cannot be read.",
            hint="Use the model's safetensors form, or a folder with its tokenizer.json.",
        )
    _add_tokens(tokenizer, source)
    _add_template(tokenizer, source, add_bos)
    return tokenizer


def _kind(source: Vocabulary) -> BpeKind:
    kind = KINDS.get(source.pre)
    if kind is None:
        raise UnsupportedOption(
            f"The GGUF file's pre-tokenizer {source.pre!r} is not known.",
            hint="Use the model's safetensors form, or a folder with its tokenizer.json.",
        )
    return kind


def _byte_level(source: Vocabulary, kind: BpeKind) -> Tokenizer:
    tokenizer = Tokenizer(_bpe(source, source.merges, ignore_merges=kind.ignore_merges))
    if kind.nfc:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizer(source.pre)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _respell_spaces(source: Vocabulary) -> Vocabulary:
    """Gemma's files have runs of spaces as spaces, while text is looked up with U+2581."""
    tokens = [
        SPACE * len(token) if token.isspace() and not token.strip(" ") else token for token in source.tokens
    ]
    return msgspec.structs.replace(source, tokens=tokens)


def _sentencepiece(source: Vocabulary) -> Tokenizer:
    """BPE over whole texts, spaces spelled as U+2581, unknown characters as byte tokens.

    The leading space comes from a normalizer, so that it is put before every stretch of text between special
    tokens, as llama.cpp and the models' own tokenizers do.
    """
    gemma = source.architecture.startswith("gemma")
    merges = source.merges or _merges_from_scores(source, by_position=gemma)
    unknown = source.special("unknown")
    tokenizer = Tokenizer(_bpe(source, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    prefix = source.flag("add_space_prefix", default=source.model == "llama")
    spaces = normalizers.Replace(" ", SPACE)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), spaces]) if prefix else spaces
    steps: list[decoders.Decoder] = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if prefix:
        steps.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer


def _bpe(source: Vocabulary, merges: list[tuple[str, str]], **options: Any) -> BPE:
    vocabulary = {token: index for index, token in enumerate(source.tokens)}
    try:
        return BPE(vocabulary, merges, **options)
    except Exception as error:  # tokenizers raises plain Exception
        raise CorruptFile(
            f"The GGUF file's merges do not fit its vocabulary: {error}.", hint="Fetch the file again."
        ) from error


def _merges_from_scores(source: Vocabulary, *, by_position: bool) -> list[tuple[str, str]]:
    """SentencePiece keeps a score a token: the pair is merged first whose whole has the highest score.

    ``by_position`` takes the order in the file for the score (Gemma's scores are not its order of merging).
    """
    scores = [-float(index) for index in range(len(source.tokens))] if by_position else source.scores
    if not scores:
        raise CorruptFile("The GGUF file has neither merges nor scores.", hint="Convert the model again.")
    known = set(source.tokens)
    wholes: dict[float, list[str]] = {}
    for token, score, kind in zip(source.tokens, scores, source.types, strict=True):
        if kind not in (TokenType.CONTROL, TokenType.BYTE, TokenType.UNKNOWN):
            wholes.setdefault(score, []).append(token)
    merges: list[tuple[str, str]] = []
    for score in sorted(wholes, reverse=True):
        pairs = [
            (token[:cut], token[cut:])
            for token in wholes[score]
            for cut in range(len(token) - 1, 0, -1)
            if token[:cut] in known and token[cut:] in known
        ]
        if len(wholes[score]) > 1:  # a tie goes to the longer left part
            pairs.sort(key=lambda pair: (-len(pair[0]), -len(pair[1])))
        merges += pairs
    return merges


def _add_tokens(tokenizer: Tokenizer, source: Vocabulary) -> None:
    """Let control tokens be found in text whole, and left out on decoding; user-defined ones only found."""
    strips = _phi3_strips if "phi-3" in source.name.lower() or "phi3" in source.name.lower() else _never
    special, plain = [], []
    for token, kind in zip(source.tokens, source.types, strict=True):
        if kind in (TokenType.CONTROL, TokenType.UNKNOWN):
            special.append(AddedToken(token, normalized=False, special=True, rstrip=strips(token)))
        elif kind == TokenType.USER_DEFINED:
            # Runs of spaces are found in the normalized text, where they are spelled as in the vocabulary.
            spaces = not token.strip(SPACE)
            plain.append(AddedToken(token, normalized=spaces, special=False, rstrip=strips(token)))
    tokenizer.add_special_tokens(special)
    tokenizer.add_tokens(plain)


def _phi3_strips(token: str) -> bool:
    """Phi-3's special tokens swallow the white space behind them, which a GGUF cannot say."""
    return token not in ("<unk>", "<s>", "<|endoftext|>")


def _never(token: str) -> bool:
    return False


def _add_template(tokenizer: Tokenizer, source: Vocabulary, add_bos: bool) -> None:
    bos = source.special("bos") if source.flag("add_bos_token", add_bos) else None
    eos = source.special("eos") if source.flag("add_eos_token", False) else None
    ends = [token for token in (bos, eos) if token is not None]
    steps: list[processors.PostProcessor] = []
    if source.model == "gpt2":
        steps.append(processors.ByteLevel(trim_offsets=False))
    if ends:
        pieces = [*([bos] if bos else []), "$A", *([eos] if eos else [])]
        ids = [(token, source.tokens.index(token)) for token in dict.fromkeys(ends)]
        steps.append(processors.TemplateProcessing(single=pieces, special_tokens=ids))
    if steps:
        tokenizer.post_processor = processors.Sequence(steps)


def _pair(merge: str) -> tuple[str, str]:
    # A token may begin with a space, so the cut is looked for from the second character on.
    cut = merge.find(" ", 1)
    if cut < 0:
        raise CorruptFile(f"The GGUF file has a merge of one part: {merge[:40]!r}.", hint="Fetch it again.")
    return merge[:cut], merge[cut + 1 :]


def _array(metadata: dict[str, object], key: str, kind: type[T]) -> list[T]:
    values: list[T] = _of_type(metadata, f"tokenizer.ggml.{key}", list, [])
    if values and type(values[0]) is not kind:
        raise CorruptFile(f"The GGUF file's {key} are not of the right type.", hint="Fetch the file again.")
    return values


def _of_type(metadata: dict[str, object], key: str, kind: type[T], default: T) -> T:
    value = metadata.get(key, default)
    if type(value) is not kind:
        raise CorruptFile(f"The GGUF file's {key} is not of the right type.", hint="Fetch the file again.")
    return value
