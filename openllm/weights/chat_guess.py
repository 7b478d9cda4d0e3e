"""How a model without a recipe is talked to, from its chat template: only what the text leaves no doubt about."""

from __future__ import annotations

from openllm.weights.manifest import ChatFormat

# What a template writes around a tool call -> how answers are read. The first that is found counts.
_TOOLS = (
    ("<|channel|>commentary", "harmony"),
    ("<parameter=", "qwen3_xml"),
    ("<function=", "none"),  # others write JSON inside
    ("<arg_key>", "glm"),
    ("<|tool_calls_section_begin|>", "kimi"),
    ("<\uff5ctool\u2581calls\u2581begin\uff5c>", "deepseek_v3"),
    ("[TOOL_CALLS]", "mistral"),
    ("<|python_tag|>", "llama3_json"),
    ("<tool_call>", "hermes"),
    ("<|tool_call|>", "granite"),
)
_REASONING = (("<|channel|>", "harmony"), ("[THINK]", "mistral"), ("<think>", "think"))


def guess_chat(template: str | None) -> ChatFormat:
    """Formats of tool calls and of reasoning; "none" where the template does not show them."""
    text = template or ""
    tools = next((name for sign, name in _TOOLS if sign in text), "none")
    reasoning = next((name for sign, name in _REASONING if sign in text), "none")
    return ChatFormat(tools=tools, reasoning=reasoning)


def guess_task(architecture: str, *, template: bool, sentence_transformer: bool = False) -> str:
    """chat, completion, embedding or rerank. ``sentence_transformer``: is there a modules.json?"""
    if architecture.endswith("ForSequenceClassification"):
        return "rerank"
    generates = architecture.endswith(("ForCausalLM", "ForConditionalGeneration", "LMHeadModel"))
    if sentence_transformer or (architecture and not generates):
        return "embedding"
    return "chat" if template else "completion"
