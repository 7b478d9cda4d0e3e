"""From what a client wrote to token ids, and from token ids back to text. Holds the model's tokenizer."""

from __future__ import annotations

from typing import Any

from openllm.chat.detokenizer import Detokenizer
from openllm.chat.messages import template_messages
from openllm.chat.template import ChatTemplate
from openllm.chat.template_traits import template_traits
from openllm.chat.tokenizer import ChatTokenizer
from openllm.errors import ContextLengthExceeded, RequestError, UnsupportedParameter
from openllm.weights.manifest import ChatFormat


class Prompter:
    """``context`` is the longest prompt + answer in tokens; ``end_ids`` end an answer.

    Raises ``UsageError`` if the chat template cannot be read.
    """

    def __init__(self, tokenizer: ChatTokenizer, chat: ChatFormat, context: int) -> None:
        source = tokenizer.chat_template if chat.template == "tokenizer" else chat.template
        self.context = context
        self.end_ids = tokenizer.stop_ids
        self.tokenizer = tokenizer
        self._template = None
        if source is not None:
            self._template = ChatTemplate(source, tokenizer.special_tokens)
            self._traits = template_traits(source)

    def chat_prompt(self, messages: list[dict[str, Any]]) -> list[int]:
        """Render a conversation and tokenize it. Raises ``RequestError``."""
        if self._template is None:
            raise RequestError(
                "This model has no chat template.", hint="Use /v1/completions.", param="messages"
            )
        text = self._template.render(template_messages(messages, self._traits))
        # The template writes the special tokens itself.
        return self.tokenizer.encode(text, add_special_tokens=False)

    def text_prompt(self, prompt: str | list[int]) -> list[int]:
        """Tokenize a bare prompt; token ids are taken as they are. Raises ``RequestError``."""
        if isinstance(prompt, str):
            ids = self.tokenizer.encode(prompt, add_special_tokens=True)
        else:
            ids = prompt
            if max(ids) >= self.tokenizer.vocabulary:
                last = self.tokenizer.vocabulary - 1
                raise RequestError(f"A token id of the prompt is not in 0..{last}.", param="prompt")
        if not ids:
            raise RequestError("The prompt is empty.", hint="Send at least one token.", param="prompt")
        return ids

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
