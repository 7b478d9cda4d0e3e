"""What forms of messages a chat template takes, read off its syntax tree."""

from __future__ import annotations

from functools import lru_cache

import msgspec
from jinja2 import nodes

from openllm.chat.template import parse


class TemplateTraits(msgspec.Struct, frozen=True):
    """``parts``: it walks through content as a list of parts; ``text``: it also takes content as a text;
    ``none``: it asks whether content is none; ``developer``: it knows the role of that name; ``images``: it writes a
    mark for a part of the type image."""

    parts: bool = False
    text: bool = True
    none: bool = False
    developer: bool = False
    images: bool = False


@lru_cache(maxsize=32)
def template_traits(source: str) -> TemplateTraits:
    """Read the traits of a template. Raises ``UsageError`` if it is no valid Jinja."""
    tree = parse(source)
    parts = any(_walks_parts(loop) for loop in tree.find_all(nodes.For))
    tests = {test.name for test in tree.find_all(nodes.Test) if last_name(test.node) == "content"}
    return TemplateTraits(
        parts=parts,
        text=not parts or bool(tests & {"string", "iterable", "mapping", "sequence"}),
        none="none" in tests,
        developer=any(node.value == "developer" for node in tree.find_all(nodes.Const)),
        images=parts and any(node.value == "image" for node in tree.find_all(nodes.Const)),
    )


def _walks_parts(loop: nodes.For) -> bool:
    """Is it ``for part in ...content`` with a body that looks at the part's type or text?"""
    if last_name(loop.iter) != "content" or not isinstance(loop.target, nodes.Name):
        return False
    part = loop.target.name
    return any(
        last_name(access.node) == part and last_name(access) in ("type", "text")
        for statement in loop.body
        for access in _accesses(statement)
    )


def _accesses(tree: nodes.Node) -> list[nodes.Getattr | nodes.Getitem]:
    return [*tree.find_all(nodes.Getattr), *tree.find_all(nodes.Getitem)]


def last_name(node: nodes.Node) -> str | None:
    """The last name of ``content``, ``message.content``, ``message['content']`` or one of these filtered."""
    if isinstance(node, nodes.Name):
        return node.name
    if isinstance(node, nodes.Getattr):
        return node.attr
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        return str(node.arg.value)
    if isinstance(node, nodes.Filter) and node.node is not None:
        return last_name(node.node)
    return None
