"""Render a model's chat template (Jinja) as transformers' ``apply_chat_template`` does.

A template comes with weights from anywhere, so it runs sandboxed, its loops and texts bounded. What it may use is
what transformers gives it (transformers, utils/chat_template_utils.py): trimmed blocks, ``break`` and
``continue``, a ``generation`` block, ``tojson``, ``raise_exception`` and ``strftime_now``.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from openllm.errors import RequestError, UsageError

MAX_TEXT = 16 << 20
"""Characters of a rendered chat, and of any text that a template puts together on the way."""
MAX_BITS = 1 << 16
"""Bits of a whole number."""
MAX_SECONDS = 5.0
MAX_STEPS = 2_000_000
"""Turns of loops and calls of macros in one rendering."""
_HINT = "Check the messages against what the model's chat template takes."


class ChatTemplate:
    """A compiled chat template. Safe to share between threads."""

    def __init__(self, source: str, special_tokens: Mapping[str, str | None]) -> None:
        """``special_tokens`` are ``bos_token``, ``eos_token`` and so on, as the template names them;
        None, like leaving out, says that the model has none.

        Raises ``UsageError`` if ``source`` is no valid Jinja.
        """
        self.source = source
        self._special_tokens = {name: token for name, token in special_tokens.items() if token is not None}
        self._template = _compile(source)

    def render(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        tools: Sequence[Mapping[str, object]] | None = None,
        documents: Sequence[Mapping[str, object]] | None = None,
        add_generation_prompt: bool = True,
        **kwargs: object,
    ) -> str:
        """The prompt's text; tokenize it without adding special tokens.

        ``kwargs`` are the template's own switches (``enable_thinking`` and the like) and win over special tokens.
        Raises ``RequestError`` when the template refuses the messages, fails, or runs out of bounds.
        """
        if not messages:
            raise RequestError("messages is empty.", hint="Send at least one message.", param="messages")
        values: dict[str, object] = {
            **self._special_tokens,
            **kwargs,
            "messages": messages,
            "tools": tools,
            "documents": documents,
            "add_generation_prompt": add_generation_prompt,
        }
        token = _budget.set(_Budget())
        try:
            return self._render(values)
        except jinja2.TemplateError as error:
            raise _refusal(error.message or type(error).__name__) from error
        except Exception as error:  # a template can run into any error of Python's
            raise _refusal(f"{type(error).__name__}: {error}") from error
        finally:
            _budget.reset(token)

    def _render(self, values: dict[str, object]) -> str:
        pieces, size = [], 0
        for piece in self._template.generate(values):
            pieces.append(piece)
            size += len(piece)
            _check_size(size)
        return "".join(pieces)


def _refusal(reason: str) -> RequestError:
    reason = " ".join(reason.split())[:500]
    return RequestError(f"The chat template refused the messages: {reason}", hint=_HINT, param="messages")


class _Budget:
    """What is left of one rendering's bounds."""

    __slots__ = ("deadline", "steps")

    def __init__(self) -> None:
        self.steps = MAX_STEPS
        self.deadline = time.monotonic() + MAX_SECONDS

    def step(self) -> None:
        self.steps -= 1
        if self.steps < 0 or (not self.steps & 255 and time.monotonic() > self.deadline):
            raise SecurityError("it runs for too long")


_budget: ContextVar[_Budget] = ContextVar("budget")


def _check_size(size: int) -> None:
    if size > MAX_TEXT:
        raise SecurityError(f"it makes a text of over {MAX_TEXT} characters")


def _check_number(bits: int) -> None:
    if bits > MAX_BITS:
        raise SecurityError(f"it makes a number of over {MAX_BITS} bits")


class _Bounded(NodeTransformer):
    """Put a step into every loop and macro, and a check of size around ``a ~ b``."""

    def __init__(self, extension: _Bounds) -> None:
        self._extension = extension

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        return self._with_step(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:  # noqa: N802
        return self._with_step(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return self._extension.call_method("join", [nodes.List(node.nodes)], lineno=node.lineno)

    def _with_step(self, node: nodes.For | nodes.Macro) -> nodes.Node:
        self.generic_visit(node)
        call = self._extension.call_method("step", lineno=node.lineno)
        node.body.insert(0, nodes.ExprStmt(call, lineno=node.lineno))
        return node


class _Bounds(Extension):
    """What a bounded template calls while it runs."""

    def step(self) -> None:
        _budget.get().step()

    def join(self, parts: list[object]) -> str:
        texts = [str(part) for part in parts]
        _check_size(sum(map(len, texts)))
        return "".join(texts)


class _Generation(Extension):
    """``{% generation %}``: marks what the model wrote, for training; rendering leaves it as it is."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("body"), [], [], body).set_lineno(line)

    def body(self, caller: Macro) -> str:
        return caller()


_SIZED = (str, list, tuple)


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox, with bounds on what can be multiplied."""

    intercepted_binops = frozenset(("*", "**", "+", "%"))

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        bounds = self.extensions[_Bounds.identifier]
        assert isinstance(bounds, _Bounds)
        bounded = _Bounded(bounds).visit(tree)
        assert isinstance(bounded, nodes.Template)
        return bounded

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "+" and isinstance(left, _SIZED) and isinstance(right, _SIZED):
            _check_size(len(left) + len(right))
        elif operator == "*":
            _check_product(left, right)
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            _check_number(left.bit_length() * abs(right))
        elif operator == "%" and isinstance(left, str) and re.search(r"%[^a-zA-Z%]*(\d{5}|\*)", left):
            raise SecurityError("it formats a text of great width")
        return super().call_binop(context, operator, left, right)


def _check_product(left: object, right: object) -> None:
    if isinstance(left, _SIZED) and isinstance(right, int):
        _check_size(len(left) * right)
    elif isinstance(left, int) and isinstance(right, _SIZED):
        _check_size(left * len(right))
    elif isinstance(left, int) and isinstance(right, int):
        _check_number(left.bit_length() + right.bit_length())


def _raise_exception(message: object) -> NoReturn:
    raise jinja2.TemplateError(str(message))


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes HTML.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _strftime_now(layout: str) -> str:
    return datetime.now().strftime(layout)


def _environment() -> _Environment:
    environment = _Environment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, _Bounds, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    functions: dict[str, Callable[..., object]] = {
        "raise_exception": _raise_exception,
        "strftime_now": _strftime_now,
    }
    environment.globals.update(functions)
    return environment


_ENVIRONMENT = _environment()


@lru_cache(maxsize=32)
def _compile(source: str) -> jinja2.Template:
    with _readable():
        return _ENVIRONMENT.from_string(source)


def parse(source: str) -> nodes.Template:
    """The syntax tree of a template. Raises ``UsageError`` if it is no valid Jinja."""
    with _readable():
        return _ENVIRONMENT.parse(source)


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except jinja2.TemplateSyntaxError as error:
        raise UsageError(
            f"The chat template cannot be read: {error.message} (line {error.lineno}).",
            hint="Correct the template, or set chat.template in the recipe.",
        ) from error
    except RecursionError as error:
        raise UsageError("The chat template is nested too deeply.", hint="Use another template.") from error
