"""From a conversation to a prompt, and to what reads the answer to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from openllm.api.parameters import ChatRequest
from openllm.api.template_switches import template_switches
from openllm.api.tool_use import ToolUse, tool_use
from openllm.chat.answer_format import NONE, AnswerFormat, calls_or_object_parser, forced_parser
from openllm.chat.call_messages import fit_calls
from openllm.chat.call_traits import CallTraits, call_traits
from openllm.chat.messages import Message, template_messages
from openllm.chat.parsing.parser import AnswerParser
from openllm.chat.template import ChatTemplate
from openllm.chat.template_traits import TemplateTraits, template_traits
from openllm.chat.tokenizer import ChatTokenizer
from openllm.chat.tool_prompt import ANY_CALL, CALL_OR_ANSWER, HOW_TO_CALL, one_call, tell_of_tools
from openllm.engines.base import Guide
from openllm.errors import RequestError, UnsupportedParameter
from openllm.weights.manifest import ChatFormat


class ChatPrompt(msgspec.Struct, frozen=True):
    """``ids`` and ``text`` are the prompt's, ``guide`` what the answer must look like; ``use`` are the tools that
    may be called in it."""

    ids: list[int]
    text: str
    format: AnswerFormat
    use: ToolUse | None = None
    guide: Guide | None = None

    def parser(self) -> AnswerParser | None:
        """A new one for an answer; None where the answer is nothing but text."""
        use = self.use
        if self.guide is not None and use is None:
            return None
        if use is not None and use.forced:
            return forced_parser(use.schemas, use.name, use.most_calls)
        if use is not None and use.guided:
            return calls_or_object_parser(use.schemas, use.most_calls)
        if use is None:
            return self.format.parser({}, self.text)
        return self.format.parser(use.schemas, self.text, use.most_calls)


class _Template(msgspec.Struct, frozen=True):
    """A chat template and what is known of it."""

    template: ChatTemplate
    traits: TemplateTraits
    calls: CallTraits

    @classmethod
    def read(cls, source: str, special_tokens: dict[str, str]) -> _Template:
        return cls(ChatTemplate(source, special_tokens), template_traits(source), call_traits(source))


class ChatPrompter:
    """Renders conversations for one model. Raises ``UsageError`` if a chat template of it cannot be read."""

    def __init__(self, tokenizer: ChatTokenizer, chat: ChatFormat) -> None:
        own = chat.template == "tokenizer"
        source = tokenizer.chat_template if own else chat.template
        tool_source = tokenizer.tool_template if own else None
        self.format = AnswerFormat(chat.tools, chat.reasoning)
        self._tokenizer = tokenizer
        self._plain = None if source is None else _Template.read(source, tokenizer.special_tokens)
        self._for_tools = (
            self._plain if tool_source is None else _Template.read(tool_source, tokenizer.special_tokens)
        )

    def prompt(self, request: ChatRequest) -> ChatPrompt:
        """Render a conversation and tokenize it.

        Raises ``RequestError`` for messages, tools and switches that are wrong, and ``UnsupportedParameter`` for
        those that this model cannot honour.
        """
        use = tool_use(request)
        template = self._plain if use is None else self._for_tools
        if template is None:
            raise RequestError(
                "This model has no chat template.", hint="Use /v1/completions.", param="messages"
            )
        messages = fit_calls(template_messages(request.messages, template.traits), template.calls)
        tools = None
        if use is not None:
            if template.calls.tools and use.answer is None:
                tools = use.shown
            else:
                messages = tell_of_tools(messages, use.shown, self._how(use))
            self._check_use(use, request)
        text = _render(request, template, messages, tools, self.format)
        guide = request.guide() if use is None else use.guide()
        if guide is not None:
            text += self.format.forced_opening(text, use.name if use is not None else None)
        # The template writes the special tokens itself.
        ids = self._tokenizer.encode(text, add_special_tokens=False)
        return ChatPrompt(ids, text, self.format, use, guide)

    def _check_use(self, use: ToolUse, request: ChatRequest) -> None:
        """A model whose way of calling is not known may call only where its answer is forced to be one."""
        if use.guided and request.continue_final_message:
            raise RequestError(
                "An answer that must be a call, or may be one beside response_format, cannot go on with a message.",
                hint='Use tool_choice "none", or leave continue_final_message out.',
                param="continue_final_message",
            )
        if not use.guided and self.format.tools == NONE:
            raise UnsupportedParameter(
                "It is not known how this model calls tools, so it cannot choose to.",
                hint='Force a call (tool_choice "required" or a function), or set chat.tools in a recipe of your own.',
                param="tools",
            )

    def _how(self, use: ToolUse) -> str:
        """How the model is told to call, where its template tells it nothing."""
        if use.forced:
            return ANY_CALL if use.name is None else one_call(use.name)
        if use.answer is not None:
            return CALL_OR_ANSWER
        how = HOW_TO_CALL.get(self.format.tools)
        if how is None and self.format.tools != NONE:
            raise UnsupportedParameter(
                "This model's chat template takes no tools.",
                hint="Set chat.template in a recipe of your own to one that does.",
                param="tools",
            )
        return how or ""


def _render(
    request: ChatRequest,
    template: _Template,
    messages: Sequence[Message],
    tools: list[dict[str, Any]] | None,
    form: AnswerFormat,
) -> str:
    switches = template_switches(request, template.calls, form)
    goes_on = bool(request.continue_final_message)
    begins = not goes_on if request.add_generation_prompt is None else request.add_generation_prompt
    if goes_on:
        _check_continued(request, begins=begins)
    text = template.template.render(messages, tools=tools, add_generation_prompt=begins, **switches)
    return _up_to_content(text, messages[-1]) if goes_on else text


def _check_continued(request: ChatRequest, *, begins: bool) -> None:
    where = "continue_final_message"
    if begins:
        raise RequestError(
            f"{where} and add_generation_prompt cannot both be true.", hint="Choose one.", param=where
        )
    last = request.messages[-1]
    if last.get("role") != "assistant" or last.get("tool_calls"):
        raise RequestError(
            f"{where} needs an assistant's message without calls at the end.",
            hint="Send the beginning of the answer as the last message.",
            param=where,
        )


def _up_to_content(text: str, last: Message) -> str:
    """Cut a rendered conversation behind the content of its last message, as transformers does."""
    content = last["content"]
    if isinstance(content, list):
        content = content[-1]["text"]
    content = str(content)
    at = text.rfind(content.strip())
    if not content.strip() or at < 0:
        raise RequestError(
            "The last message has no content that could go on.",
            hint="Give it the beginning of the answer as its content.",
            param="continue_final_message",
        )
    spaced = content.lstrip()
    return text[: at + len(spaced if text.startswith(spaced, at) else content.strip())]
