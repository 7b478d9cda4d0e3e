"""The front's tokenizer: text to token ids and back, its special tokens, and the chat template that came along."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from openllm.chat.tokenizer_cache import load_gguf
from openllm.chat.tokenizer_facts import TokenizerFacts
from openllm.chat.tokenizer_folder import read_folder
from openllm.errors import UsageError

# Tokens that end a turn wherever they are in a vocabulary; files often name only one of them as eos.
END_OF_TURN = (
    "<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<end_of_turn>", "<turn|>",
    "<|end_of_text|>", "<|endoftext|>", "<|end_of_turn|>", "<end_of_utterance>", "<EOT>", "[EOT]",
    "<|END_OF_TURN_TOKEN|>", "<\uff5cend\u2581of\u2581sentence\uff5c>", "[e~[",
)  # fmt: skip
_MANY_IDS = 1000
HARMONY_END = "<|end|>"
"""In gpt-oss's format it ends a message of a turn; <|return|> and <|call|> end the turn."""


class ChatTokenizer:
    """A tokenizer and what the front must know of it. Safe to share between threads.

    ``special_tokens`` are texts by the names that templates use (``bos_token`` ...), for ``ChatTemplate``;
    ``bos_token``/``bos_id`` and ``eos_token``/``eos_id`` are None where the model has none. ``stop_ids`` end an
    answer. ``chat_template`` is the Jinja text that came with the model, ``tool_template`` the one to use instead
    when tools are given (None: the same). ``vocabulary`` counts tokens, added ones included. ``backend`` is the
    ``tokenizers`` object. ``anchor`` are ids of a plain text, for decoding others as not being the first.
    """

    def __init__(self, backend: Tokenizer, facts: TokenizerFacts, stop: Sequence[str] = ()) -> None:
        """``stop`` are further tokens that end an answer. Raises ``UsageError`` if one is not in the vocabulary."""
        backend.no_truncation()
        backend.no_padding()
        self.backend = backend
        self.special_tokens = facts.special_tokens
        self.bos_token = facts.special_tokens.get("bos_token")
        self.eos_token = facts.special_tokens.get("eos_token")
        self.bos_id = None if self.bos_token is None else backend.token_to_id(self.bos_token)
        self.eos_id = None if self.eos_token is None else backend.token_to_id(self.eos_token)
        self.chat_template = facts.template
        self.tool_template = facts.tool_template
        self.vocabulary: int = backend.get_vocab_size(with_added_tokens=True)
        self.anchor = self.encode("a", add_special_tokens=False)
        self.stop_ids = _stop_ids(backend, facts, self.eos_id, stop)

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        """Token ids of ``text``; special tokens written out in it become their ids.

        ``add_special_tokens`` adds bos and eos where the model wants them: true for plain prompts, false for what
        a chat template has rendered.
        """
        # The fast form leaves out offsets into the text: half the time.
        encoding = self.backend.encode_batch_fast([text], add_special_tokens=add_special_tokens)[0]
        ids: list[int] = encoding.ids
        return ids

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of token ids; bytes that are no UTF-8 become U+FFFD."""
        text: str
        if len(ids) > _MANY_IDS:
            # The form for many texts lets other threads run meanwhile.
            (text,) = self.backend.decode_batch([ids], skip_special_tokens=skip_special_tokens)
        else:
            text = self.backend.decode(ids, skip_special_tokens=skip_special_tokens)
        return text

    def token(self, index: int) -> str:
        """The vocabulary's own entry of a token id, which must be in it; bytes are written as it writes them."""
        text: str | None = self.backend.id_to_token(index)
        return text or ""


def load_tokenizer(path: Path, cache: Path | None = None, stop: Sequence[str] = ()) -> ChatTokenizer:
    """Load the tokenizer of a model's folder (tokenizer.json) or of a .gguf file.

    ``cache`` is a folder for tokenizers built from GGUF files; ``stop`` names further tokens that end an answer,
    as a recipe does. Blocks on the disk for 0.05 to 1 s. Raises ``UsageError`` (no tokenizer.json, a stop token
    that is not in the vocabulary), ``UnsupportedOption`` (an unknown kind of GGUF tokenizer), ``CorruptFile`` and
    ``WeightsError`` (files that cannot be read).
    """
    tokenizer, facts = read_folder(path) if path.is_dir() else load_gguf(path, cache)
    return ChatTokenizer(tokenizer, facts, stop)


def _stop_ids(
    backend: Tokenizer, facts: TokenizerFacts, eos_id: int | None, stop: Sequence[str]
) -> tuple[int, ...]:
    special = {token.content: index for index, token in backend.get_added_tokens_decoder().items()}
    names = [name for name in END_OF_TURN if name in special]
    if "<|return|>" in special and "<|call|>" in special and HARMONY_END in names:
        names.remove(HARMONY_END)
    ids = [*([] if eos_id is None else [eos_id]), *facts.end_ids, *(special[name] for name in names)]
    for name in stop:
        index = backend.token_to_id(name)
        if index is None:
            raise UsageError(
                f"The stop token {name!r} is not in the model's vocabulary.",
                hint="Correct chat.stop in the recipe.",
            )
        ids.append(index)
    return tuple(dict.fromkeys(ids))
