"""From texts, pairs of texts and token ids to what an encoder takes. Holds the model's tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tokenizers import Encoding as Tokenized
from tokenizers import Tokenizer

from openllm.chat.tokenizer import ChatTokenizer
from openllm.errors import ContextLengthExceeded, RequestError, UnsupportedParameter, quoted
from openllm.formats.sentence_model import SentenceModel
from openllm.weights.manifest import EmbeddingFormat

Pair = tuple[str, str]


class Text(NamedTuple):
    """A text as token ids, special ones included; ``second`` is where the second text of a pair begins, for
    models that tell the two apart, else 0."""

    ids: list[int]
    second: int = 0


class TextEncoder:
    """``context`` is the longest text in tokens. Safe to share between threads.

    ``limit`` below is the most tokens of a text, as ``truncate_prompt_tokens`` asks: longer ones are cut on the
    right, -1 is the whole context, and None cuts nothing and raises ``ContextLengthExceeded``. ``param`` names the
    request's field in errors.
    """

    def __init__(
        self,
        tokenizer: ChatTokenizer,
        model: SentenceModel,
        embedding: EmbeddingFormat,
        *,
        context: int,
        width: int,
    ) -> None:
        """``width`` is the model's own number of dimensions."""
        self.context = context
        self._tokenizer: Tokenizer = tokenizer.backend
        self._vocabulary = tokenizer.vocabulary
        self._model = model
        self._embedding = embedding
        self._width = width

    def texts(
        self, texts: Sequence[str], limit: int | None, param: str, *, prompt: str | None = None
    ) -> list[Text]:
        """Each text with its prompt before it: that of the name ``prompt``, None: the model's default, "": none.

        Raises ``RequestError`` for an empty text or a prompt that the model has not. Blocks: some 0.1 ms a text.
        """
        before = self._prompt(prompt)
        whole = [self._lowered(before + text) for text in texts]
        _refuse_empty(texts, param)
        return self._tokenized(whole, limit, param, self._cut_text)

    def pairs(self, pairs: Sequence[Pair], limit: int | None, param: str) -> list[Text]:
        """Each pair as the model's tokenizer joins two texts; as ``texts``, without prompts. Of a pair that is too
        long the longer text is cut."""
        lowered = [(self._lowered(first), self._lowered(second)) for first, second in pairs]
        for first, second in lowered:
            _refuse_empty((first, second), param)
        return self._tokenized(lowered, limit, param, self._cut_pair)

    def ids(self, lists: Sequence[list[int]], limit: int | None, param: str) -> list[Text]:
        """Token ids, taken as they are: neither prompt nor special tokens are added."""
        most = self._most(limit)
        texts = []
        for index, ids in enumerate(lists):
            if max(ids) >= self._vocabulary:
                last = self._vocabulary - 1
                raise RequestError(f"A token id of {param} {index} is not in 0..{last}.", param=param)
            texts.append(Text(ids if limit is None else ids[:most]))
        self._check_lengths(texts, param)
        return texts

    def has_prompt(self, name: str) -> bool:
        """Does the model have a prompt of this name?"""
        return name in self._model.prompts

    def check_dimensions(self, wanted: int | None) -> None:
        """Raise ``UnsupportedParameter`` for a number of dimensions that the model's vectors cannot be cut to."""
        if wanted is None or wanted == self._width:
            return
        least, sizes = self._embedding.least_dimensions, self._embedding.dimensions
        if least is None:
            raise UnsupportedParameter(
                f"This model's vectors have {self._width} dimensions and were not trained to be cut to {wanted}.",
                hint="Leave dimensions out.",
                param="dimensions",
            )
        if sizes and wanted not in sizes:
            raise UnsupportedParameter(
                f"This model's vectors can be cut to {', '.join(map(str, sizes))} dimensions, not to {wanted}.",
                hint="Choose one of them.",
                param="dimensions",
            )
        if not least <= wanted <= self._width:
            raise UnsupportedParameter(
                f"This model's vectors have {least} to {self._width} dimensions, not {wanted}.",
                hint="Choose a number between them.",
                param="dimensions",
            )

    def _tokenized(
        self,
        texts: Sequence[str | Pair],
        limit: int | None,
        param: str,
        cut: Callable[[str | Pair, int], Tokenized],
    ) -> list[Text]:
        most = self._most(limit)
        # The fast form leaves out offsets into the text: half the time.
        found = self._tokenizer.encode_batch_fast(texts, add_special_tokens=True)
        if limit is not None:
            found = [
                cut(text, most) if len(each) > most else each for text, each in zip(texts, found, strict=True)
            ]
        made = [Text(each.ids, _second(each)) for each in found]
        self._check_lengths(made, param)
        return made

    def _cut_text(self, text: str | Pair, most: int) -> Tokenized:
        (bare,) = self._tokenizer.encode_batch([text], add_special_tokens=False)
        bare.truncate(self._room(most, pair=False))
        return self._tokenizer.post_process(bare)

    def _cut_pair(self, pair: str | Pair, most: int) -> Tokenized:
        first, second = self._tokenizer.encode_batch(list(pair), add_special_tokens=False)
        room = self._room(most, pair=True)
        shorter = min(len(first), len(second), room // 2)
        keep = (min(len(first), room - shorter), shorter)
        if len(first) < len(second):
            keep = (shorter, min(len(second), room - shorter))
        first.truncate(keep[0])
        second.truncate(keep[1])
        return self._tokenizer.post_process(first, second)

    def _room(self, most: int, *, pair: bool) -> int:
        """Tokens that special ones leave."""
        special = self._tokenizer.num_special_tokens_to_add(pair)
        if most <= special + pair:
            raise RequestError(
                f"truncate_prompt_tokens {most} leaves no room beside {special} special tokens.",
                hint=f"Send {special + 1 + pair} or more.",
                param="truncate_prompt_tokens",
            )
        return most - special

    def _most(self, limit: int | None) -> int:
        if limit is None or limit == -1:
            return self.context
        if limit > self.context:
            raise RequestError(
                f"truncate_prompt_tokens {limit} is more than the model's {self.context} tokens.",
                hint=f"Send {self.context} or less, or -1.",
                param="truncate_prompt_tokens",
            )
        return limit

    def _check_lengths(self, texts: list[Text], param: str) -> None:
        for index, text in enumerate(texts):
            if not text.ids:
                raise RequestError(f"{param} {index} has no tokens.", hint="Send a longer text.", param=param)
            if len(text.ids) > self.context:
                raise ContextLengthExceeded(
                    f"{param} {index} has {len(text.ids)} tokens; the model takes {self.context}.",
                    hint="Shorten it, or have it cut: truncate_prompt_tokens -1.",
                    param=param,
                )

    def _prompt(self, name: str | None) -> str:
        prompts = self._model.prompts
        if name is None:
            name = self._model.default_prompt
        if name and name not in prompts:
            hint = (
                f"It has {', '.join(sorted(prompts))}." if prompts else "Leave prompt_name out: it has none."
            )
            raise UnsupportedParameter(
                f"This model has no prompt {quoted(name)}.", hint=hint, param="prompt_name"
            )
        return prompts[name] if name else ""

    def _lowered(self, text: str) -> str:
        return text.lower() if self._model.lower else text


def _refuse_empty(texts: Sequence[str], param: str) -> None:
    if "" in texts:
        raise RequestError(f"{param} {texts.index('')} is empty.", hint="Send a text.", param=param)


def _second(tokenized: Tokenized) -> int:
    kinds = tokenized.type_ids
    return kinds.index(1) if 1 in kinds else 0
