"""How a byte-level BPE vocabulary cuts text before merging, by the name in ``tokenizer.ggml.pre``.

The patterns are those of the models' own tokenizer.json; where several names share one, llama.cpp
(src/llama-vocab.cpp) is the source of which. Patterns are Oniguruma's, as ``tokenizers`` reads them, and cut
one after the other: each splits what the one before has left.
"""

from __future__ import annotations

import msgspec
from tokenizers import Regex
from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer, Punctuation, Sequence, Split


class BpeKind(msgspec.Struct, frozen=True):
    """One way of cutting.

    ``patterns`` are applied in order; ``ignore_merges`` takes a piece that is in the vocabulary as it is;
    ``add_bos`` is the default where the file does not say; ``nfc`` normalizes the text first.
    """

    patterns: tuple[str, ...]
    ignore_merges: bool = False
    add_bos: bool = False
    nfc: bool = False


_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_NEWLINES_AND_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"


def _cl100k(digits: str, letters: str = r"\p{L}+", tail: str = r"[^\s\p{L}\p{N}]+[\r\n]*") -> str:
    """The family of patterns that began with OpenAI's cl100k; they differ in how digits are grouped."""
    return rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?{letters}|{digits}| ?{tail}|{_NEWLINES_AND_SPACES}"


def _o200k(digits: str, suffix: str) -> str:
    """The family of OpenAI's o200k: words are cut where lower case turns to upper case."""
    upper, lower = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
    lead = r"[^\r\n\p{L}\p{N}]?"
    words = f"{lead}{upper}*{lower}+{suffix}|{lead}{upper}+{lower}*{suffix}"
    return rf"{words}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_NEWLINES_AND_SPACES}"


_LLAMA3 = _cl100k(r"\p{N}{1,3}")
_QWEN2 = _cl100k(r"\p{N}")
_QWEN35 = _cl100k(r"\p{N}", letters=r"[\p{L}\p{M}]+", tail=r"[^\s\p{L}\p{M}\p{N}]+[\r\n]*")
_CASED_LETTERS = (
    "A-Za-z"
    "\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373"
    "\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a"
    "-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b"
    "\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59"
    "\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3"
    "\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d"
    "\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-"
    "\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787"
    "\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f"
    "\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-"
    "\U000118df\U0001e900-\U0001e943"
)
_CHINESE_AND_HANGUL = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
_HAN_AND_KANA = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
_DEEPSEEK_LLM = (
    r"[\r\n]",
    rf"\s?[{_CASED_LETTERS}]+",
    "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
    r"\s+$",
    _CHINESE_AND_HANGUL,
    r"\p{N}",
)
_DEEPSEEK_CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CHINESE_AND_HANGUL, r"\p{N}")
_DEEPSEEK_V3 = (
    r"\p{N}{1,3}",
    _HAN_AND_KANA,
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_NEWLINES_AND_SPACES}",
)
_BLOOM = " ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"
# Falcon's own pre-tokenizer has parts that no pattern can say; see pre_tokenizer().
_THREE_DIGITS = r"[0-9][0-9][0-9]"
_DEFAULT = (r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", _THREE_DIGITS)

KINDS: dict[str, BpeKind] = {}


def _add(kind: BpeKind, *names: str) -> None:
    KINDS.update(dict.fromkeys(names, kind))


_add(BpeKind((_GPT2,)), "gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "exaone4")
_add(BpeKind((_GPT2,)), "gigachat", "a.x-4.0", "mellum")
_add(BpeKind((r"\p{N}", _GPT2)), "smollm", "starcoder", "refact", "command-r", "codeshell", "exaone")
_add(BpeKind((r"\p{N}", _GPT2)), "minerva-7b", "mellum2")
_add(BpeKind((_LLAMA3,), ignore_merges=True, add_bos=True), "llama3", "llama-v3", "llama-bpe", "falcon3")
_add(BpeKind((_LLAMA3,), ignore_merges=True, add_bos=True), "falcon-h1", "pixtral", "midm-2.0", "lfm2")
_add(BpeKind((_LLAMA3,)), "dbrx", "smaug-bpe", "glm4", "chatglm-bpe")
_add(BpeKind((_QWEN2,), nfc=True), "qwen2")
_add(
    BpeKind((_QWEN2,)), "deepseek-r1-qwen", "kormo", "megrez", "stablelm2", "hunyuan", "solar-open", "grok-2"
)
_add(BpeKind((_QWEN35,), nfc=True), "qwen35")
_add(BpeKind((r"[^\n]+|[\n]+", _QWEN2)), "laguna")
_add(BpeKind((_o200k(r"\p{N}{1,3}", f"{_CONTRACTION}?"),)), "gpt-4o", "llama4", "kanana2", "minimax-m2")
_add(BpeKind((_o200k(r"\p{N}", ""),), ignore_merges=True, add_bos=True), "tekken")
_add(BpeKind(_DEEPSEEK_LLM), "deepseek-llm")
_add(BpeKind(_DEEPSEEK_CODER), "deepseek-coder")
_add(BpeKind(_DEEPSEEK_V3), "deepseek-v3", "hunyuan-dense", "joyai-llm")
_add(BpeKind((_BLOOM,)), "bloom", "poro-chat", "gpt3-finnish")
_add(BpeKind((_BLOOM, r"\p{N}")), "viking")
_add(BpeKind((_GPT2, _THREE_DIGITS)), "falcon")
_add(BpeKind(_DEFAULT), "default")


def pre_tokenizer(name: str) -> PreTokenizer:
    """The pre-tokenizer of that kind: the cuts, then bytes spelled as printable characters.

    ``name`` must be in ``KINDS``.
    """
    if name == "falcon":
        # In this order in the model's tokenizer.json: digits are looked for after the bytes were respelled.
        cut = Split(Regex(_THREE_DIGITS), "isolated")
        return Sequence([Punctuation("contiguous"), ByteLevel(add_prefix_space=False), Digits(), cut])
    cuts: list[PreTokenizer] = [Split(Regex(pattern), "isolated") for pattern in KINDS[name].patterns]
    return Sequence([*cuts, ByteLevel(add_prefix_space=False, use_regex=False)])
