"""How a model without a recipe is talked to, from its chat template: only what the text leaves no doubt about."""

from __future__ import annotations

import re

from openllm.weights.manifest import ChatFormat

# What a template writes around a tool call -> how answers are read. The first that is found counts.
_TOOLS = (
    (r"<\|channel\|>commentary", "harmony"),
    (r"<parameter=", "qwen3_xml"),
    (r"<function=", "none"),  # others write JSON inside
    (r"<arg_key>", "glm"),
    (r"<\|tool_calls_section_begin\|>", "kimi"),
    ("<\uff5ctool\u2581calls\u2581begin\uff5c>", "deepseek_v3"),
    (r"\[TOOL_CALLS\]", "mistral"),
    (r"<\|python_tag\|>", "llama3_json"),
    (r'\{"name": function name, "parameters": dictionary', "llama3_json"),
    (r"<\|tool_call_start\|>\[", "pythonic"),
    (r"<\|tool_call>call:|<start_function_call>call:", "gemma"),
    # Others write something else than JSON into the same tags.
    (r"(?s)<tool_calls?>.*arguments\\?\"", "hermes"),
    (r"<\|tool_call\|>", "granite"),
)
_REASONING = (
    (r"<\|channel\|>", "harmony"),
    (r"\[THINK\]", "mistral"),
    (r"<\|channel>thought", "gemma"),
    (r"<think>", "think"),
)


def guess_chat(template: str | None) -> ChatFormat:
    """Formats of tool calls and of reasoning; "none" where the template does not show them."""
    text = template or ""
    tools = next((name for sign, name in _TOOLS if re.search(sign, text)), "none")
    reasoning = next((name for sign, name in _REASONING if re.search(sign, text)), "none")
    return ChatFormat(tools=tools, reasoning=reasoning)


def guess_task(architecture: str, *, template: bool, sentence_transformer: bool = False) -> str:
    """chat, completion, embedding or rerank. ``sentence_transformer``: is there a modules.json?"""
    if architecture.endswith("ForSequenceClassification"):
        return "rerank"
    generates = architecture.endswith(("ForCausalLM", "ForConditionalGeneration", "LMHeadModel"))
    if sentence_transformer or (architecture and not generates):
        return "embedding"
    return "chat" if template else "completion"
