"""From what a client wrote to token ids, and from token ids back to text. Holds the model's tokenizer."""

from __future__ import annotations

import msgspec

from openllm.api.answer import Choice
from openllm.api.chat_prompter import ChatPrompt, ChatPrompter
from openllm.api.parameters import ChatRequest, CompletionRequest
from openllm.api.token_teller import TokenTeller
from openllm.chat.detokenizer import Detokenizer
from openllm.chat.events import TextDelta
from openllm.chat.markup_detokenizer import MarkupDetokenizer, unmarked_specials
from openllm.chat.scored_text import Places, scored_prompt
from openllm.chat.token_texts import TokenTexts
from openllm.chat.tokenizer import ChatTokenizer
from openllm.engines.base import Sampling
from openllm.errors import ContextLengthExceeded, RequestError, UnsupportedOption, UnsupportedParameter
from openllm.weights.manifest import ChatFormat

_SURELY_LONG = 8  # characters a token: hardly any text has more
_PIECE = 16_384  # characters
_EXTRA_TOKENS = 16


class BarePrompt(msgspec.Struct, frozen=True):
    """A text completion's prompt; ``text`` is None where ids were sent."""

    ids: list[int]
    text: str | None


class Prompter:
    """``context`` is the longest prompt + answer in tokens; ``end_ids`` end an answer.

    Raises ``UsageError`` if the chat template cannot be read.
    """

    def __init__(self, tokenizer: ChatTokenizer, chat: ChatFormat, context: int) -> None:
        self.context = context
        self.end_ids = tokenizer.stop_ids
        self.tokenizer = tokenizer
        self._chat = ChatPrompter(tokenizer, chat)
        self._texts: TokenTexts | None = None
        self._unmarked = unmarked_specials(tokenizer, self._chat.format.marks)

    def chat_prompt(self, request: ChatRequest) -> ChatPrompt:
        """Render a conversation and tokenize it. Raises ``RequestError``."""
        return self._chat.prompt(request)

    def text_prompt(self, prompt: str | list[int]) -> BarePrompt:
        """Tokenize a bare prompt; token ids are taken as they are. Raises ``RequestError``."""
        if isinstance(prompt, str):
            ids = self._encode(prompt, special=True)
        else:
            ids = prompt
            if max(ids) >= self.tokenizer.vocabulary:
                last = self.tokenizer.vocabulary - 1
                raise RequestError(f"A token id of the prompt is not in 0..{last}.", param="prompt")
        if not ids:
            raise RequestError("The prompt is empty.", hint="Send at least one token.", param="prompt")
        return BarePrompt(ids, prompt if isinstance(prompt, str) else None)

    def _encode(self, text: str, *, special: bool) -> list[int]:
        try:
            if len(text) > _SURELY_LONG * self.context:
                self._check_length(text)
            return self.tokenizer.encode(text, add_special_tokens=special)
        except TypeError as error:
            # JSON can say half of a UTF-16 pair, which is no character: the tokenizer does not call that text.
            raise RequestError(
                "The text holds half of a surrogate pair.", hint="Send whole characters.", param="prompt"
            ) from error

    def _check_length(self, text: str) -> None:
        """Refuse a text that is far too long, before time is spent on all of it. Cut anywhere, its pieces have a few
        tokens more than the whole."""
        tokens = -_EXTRA_TOKENS
        for start in range(0, len(text), _PIECE):
            piece = self.tokenizer.encode(text[start : start + _PIECE], add_special_tokens=False)
            tokens += len(piece) - _EXTRA_TOKENS
            if tokens > self.context:
                raise ContextLengthExceeded(
                    f"The prompt has more than {tokens} tokens; the context is {self.context} tokens, answer included.",
                    hint="Shorten the prompt.",
                    param="messages",
                )

    def answer_tokens(self, prompt: list[int], asked: int | None) -> int:
        """The longest answer in tokens. Raises ``ContextLengthExceeded`` if prompt and answer do not fit."""
        left = self.context - len(prompt)
        if left < 1:
            raise ContextLengthExceeded(
                f"The prompt has {len(prompt)} tokens; the context is {self.context} tokens, answer included.",
                hint="Shorten the prompt.",
                param="messages",
            )
        if asked is not None and asked > left:
            raise ContextLengthExceeded(
                f"The prompt has {len(prompt)} tokens and {asked} are asked for; the context is {self.context}.",
                hint=f"Ask for at most {left}.",
                param="max_tokens",
            )
        return left if asked is None else asked

    def check_ids(self, ids: list[int] | None) -> None:
        """Raise ``UnsupportedParameter`` for stop ids that the model cannot say."""
        if ids and max(ids) >= self.tokenizer.vocabulary:
            last = self.tokenizer.vocabulary - 1
            raise UnsupportedParameter(f"A stop_token_ids entry is not in 0..{last}.", param="stop_token_ids")

    def detokenizer(self, prompt: list[int], stop: tuple[str, ...]) -> Detokenizer:
        """For the answer to ``prompt``."""
        return Detokenizer(self.tokenizer, prompt, stop)

    def token_texts(self) -> TokenTexts:
        """Raises ``UnsupportedParameter`` if they are not known."""
        if self._texts is None:
            try:
                self._texts = TokenTexts(self.tokenizer.backend)
            except UnsupportedOption as error:
                raise UnsupportedParameter(
                    error.message, hint="Leave logprobs out.", param="logprobs"
                ) from error
        return self._texts

    def text_choice(
        self, request: CompletionRequest, prompt: BarePrompt, sampling: Sampling, *, keeps: bool
    ) -> Choice:
        """An answer to a bare prompt; without ``keeps`` none is asked for."""
        detokenizer = self.detokenizer(prompt.ids, request.stops())
        if not request.echo and sampling.logprobs is None:
            return Choice(prompt.ids, sampling, detokenizer)
        texts = None if request.logprobs is None else self.token_texts()
        if not request.echo:
            teller = TokenTeller(detokenizer, texts)
            return Choice(prompt.ids, sampling, detokenizer, teller=teller)
        text = self.tokenizer.decode(prompt.ids) if prompt.text is None else prompt.text

        def opening(places: Places | None) -> TextDelta:
            if texts is None:
                return TextDelta(text)
            return scored_prompt(self.tokenizer, texts, prompt.ids, text, places)

        teller = TokenTeller(detokenizer, texts, opening=opening, offset=len(text), keeps=keeps)
        return Choice(prompt.ids, sampling, detokenizer, teller=teller)

    def chat_choice(self, prompt: ChatPrompt, sampling: Sampling, stop: tuple[str, ...]) -> Choice:
        """An answer to a conversation. Special tokens that are marks of the model's format stay in a text that is
        parsed, for the parser to see."""
        choice = self._chat_choice(prompt, sampling, stop)
        if sampling.logprobs is None:
            return choice
        if prompt.use is not None or (choice.parser is not None and prompt.format.harmony):
            raise UnsupportedParameter(
                "Which tokens are text is not known where an answer may hold calls, so they have no logprobs.",
                hint='Leave logprobs out, or use tool_choice "none".'
                if prompt.use is not None
                else "Leave logprobs out: this model marks text as it marks calls.",
                param="logprobs",
            )
        teller = TokenTeller(choice.detokenizer, self.token_texts(), choice.parser)
        return msgspec.structs.replace(choice, teller=teller)

    def _chat_choice(self, prompt: ChatPrompt, sampling: Sampling, stop: tuple[str, ...]) -> Choice:
        parser = prompt.parser()
        if prompt.guide is not None:
            sampling = msgspec.structs.replace(sampling, guide=prompt.guide)
        elif parser is not None and self._unmarked is not None:
            marked = MarkupDetokenizer(self.tokenizer, prompt.ids, stop, self._unmarked)
            return Choice(prompt.ids, sampling, marked, parser)
        return Choice(prompt.ids, sampling, self.detokenizer(prompt.ids, stop), parser)
