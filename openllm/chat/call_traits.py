"""What a chat template does with tools, calls and reasoning, read off its syntax tree."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import msgspec
from jinja2 import meta, nodes

from openllm.chat.template import parse
from openllm.chat.template_traits import last_name

ReasoningKey = Literal["reasoning_content", "reasoning", "thinking", "part", ""]
CallIds = Literal["any", "short", "numbered"]

_REASONING_KEYS: tuple[ReasoningKey, ...] = ("reasoning_content", "reasoning", "thinking")
_SWITCHES = ("enable_thinking", "thinking")
_EFFORTS = ("reasoning_effort", "thinking_effort")
_SHORT = 9


class CallTraits(msgspec.Struct, frozen=True):
    """``tools``: it looks at the tools; ``single``: it writes one call a message; ``ids``: which ids of calls it
    takes ("short": 9 letters and digits, "numbered": ``functions.name:0``); ``reasoning``: under which key it looks
    for an assistant's reasoning ("part": as a part of the content, "": nowhere); ``variables``: what may be given to
    it besides messages."""

    tools: bool = False
    single: bool = False
    ids: CallIds = "any"
    reasoning: ReasoningKey = "reasoning_content"
    variables: frozenset[str] = frozenset()

    @property
    def switch(self) -> str:
        """The variable that turns reasoning on and off, "" if there is none."""
        return next((name for name in _SWITCHES if name in self.variables), "")

    @property
    def effort(self) -> str:
        """The variable that says how much to reason, "" if there is none."""
        return next((name for name in _EFFORTS if name in self.variables), "")


@lru_cache(maxsize=32)
def call_traits(source: str) -> CallTraits:
    """Read the traits of a template. Raises ``UsageError`` if it is no valid Jinja."""
    tree = parse(source)
    variables = frozenset(meta.find_undeclared_variables(tree))
    return CallTraits(
        tools="tools" in variables,
        single=_is_single(tree),
        ids=_ids(tree, source),
        reasoning=_reasoning(tree),
        variables=variables,
    )


def _is_single(tree: nodes.Template) -> bool:
    """Does it take the first call and walk through no others?"""
    first = any(
        last_name(access.node) == "tool_calls"
        and isinstance(access.arg, nodes.Const)
        and access.arg.value == 0
        for access in tree.find_all(nodes.Getitem)
    )
    return first and not any(last_name(loop.iter) == "tool_calls" for loop in tree.find_all(nodes.For))


def _ids(tree: nodes.Template, source: str) -> CallIds:
    if "<|tool_call_begin|>" in source:
        return "numbered"
    for comparison in tree.find_all(nodes.Compare):
        measured = comparison.expr
        length = isinstance(measured, nodes.Filter) and measured.name == "length"
        numbers = [operand.expr.value for operand in comparison.ops if isinstance(operand.expr, nodes.Const)]
        if length and _SHORT in numbers and last_name(measured) in ("id", "tool_call_id"):
            return "short"
    return "any"


def _reasoning(tree: nodes.Template) -> ReasoningKey:
    for comparison in tree.find_all(nodes.Compare):
        values = [operand.expr for operand in comparison.ops]
        if last_name(comparison.expr) == "type" and any(_is_text(value, "thinking") for value in values):
            return "part"
    names = {last_name(access) for access in tree.find_all(nodes.Getattr)}
    names |= {last_name(access) for access in tree.find_all(nodes.Getitem)}
    for call in tree.find_all(nodes.Call):
        if last_name(call.node) == "get" and call.args and isinstance(call.args[0], nodes.Const):
            names.add(str(call.args[0].value))
    return next((key for key in _REASONING_KEYS if key in names), "")


def _is_text(node: nodes.Node, text: str) -> bool:
    return isinstance(node, nodes.Const) and node.value == text
