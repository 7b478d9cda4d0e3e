"""Whatever messages, tools and templates come, rendering gives a text or refuses; nothing else, and soon."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from openllm.chat.call_messages import fit_calls
from openllm.chat.call_traits import call_traits
from openllm.chat.json_schema import schema_fault
from openllm.chat.messages import KEYS, ROLES, template_messages
from openllm.chat.template import ChatTemplate
from openllm.chat.template_traits import template_traits
from openllm.errors import RequestError, UsageError
from tests.chat.test_template import FEATURES, SPECIAL, TEMPLATES
from tests.fuzz.budget import fuzz

SOURCES = [path.read_text() for path in TEMPLATES] or list(FEATURES.values())
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10)
JSON: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)
ROLE = st.sampled_from([*ROLES, "critic"])
PART = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image_url", "refusal"])}, optional={"text": JSON}
)
CONTENT = st.text(max_size=20) | st.lists(PART, max_size=3) | JSON
FUNCTION = st.fixed_dictionaries(
    {"name": st.sampled_from(["now", "get_weather"])}, optional={"arguments": JSON}
)
CALLS = st.lists(
    st.fixed_dictionaries({"function": FUNCTION}, optional={"id": st.sampled_from("ab")}), max_size=3
)
MESSAGE = st.fixed_dictionaries(
    {"role": ROLE, "content": CONTENT},
    optional={
        "tool_calls": CALLS | JSON,
        "tool_call_id": st.sampled_from("abc"),
        "reasoning_content": st.text(max_size=9),
    },
) | st.dictionaries(st.sampled_from(sorted(KEYS)), JSON, max_size=4)
KEYWORDS = st.sampled_from(
    [
        "type",
        "properties",
        "items",
        "anyOf",
        "enum",
        "required",
        "$ref",
        "description",
        "additionalProperties",
    ]
)
SCHEMAS = st.recursive(
    LEAVES | st.sampled_from(["string", "object"]),
    lambda inner: (
        st.dictionaries(KEYWORDS | st.text(max_size=3), inner, max_size=4) | st.lists(inner, max_size=3)
    ),
)
TOOL = st.fixed_dictionaries(
    {"name": st.sampled_from(["now", "get_weather"]), "description": st.text(max_size=20)},
    optional={"parameters": SCHEMAS},
).map(lambda function: {"type": "function", "function": function})


@fuzz
@given(
    source=st.sampled_from(SOURCES),
    messages=st.lists(MESSAGE, min_size=1, max_size=5),
    tools=st.none() | st.lists(TOOL, max_size=2),
    switches=st.dictionaries(st.sampled_from(["enable_thinking", "reasoning_effort", "documents"]), JSON),
    begins=st.booleans(),
)
def test_any_conversation_is_rendered_or_refused(
    source: str,
    messages: list[dict[str, Any]],
    tools: list[dict[str, Any]] | None,
    switches: dict[str, Any],
    begins: bool,
) -> None:
    template = ChatTemplate(source, SPECIAL)
    with suppress(RequestError):
        fitted = fit_calls(template_messages(messages, template_traits(source)), call_traits(source))
        text = template.render(fitted, tools=tools, add_generation_prompt=begins, **switches)
        assert isinstance(text, str)


SNIPPETS = st.sampled_from(
    [
        *(
            "{% for m in messages %}",
            "{% endfor %}",
            "{{ m.content }}",
            "{{ messages[0]",
            "}}",
            "{% if tools %}",
        ),
        *(
            "{% endif %}",
            "{{ ''.__class__ }}",
            "{{ m.tool_calls[0] | tojson }}",
            "{% set x = 'a' * 99999999 %}",
        ),
        *(
            "{{ 9 ** 99999999 }}",
            "{% macro f() %}",
            "{% endmacro %}",
            "{{ f() }}",
            "{% set ns.x = 1 %}",
            "{%- ",
        ),
        *(
            "{% for i in range(99999999) %}",
            " -%}",
            "{{",
            "tools",
            "|",
            "tojson",
            "namespace()",
            "{{ self }}",
        ),
        "{{ cycler.__init__.__globals__ }}",
    ]
)


@fuzz
@given(pieces=st.lists(SNIPPETS | st.text(max_size=8), max_size=10))
def test_any_template_is_taken_or_refused(pieces: list[str]) -> None:
    source = "".join(pieces)
    try:
        template = ChatTemplate(source, SPECIAL)
        template_traits(source)
        call_traits(source)
    except UsageError:
        return
    with suppress(RequestError):
        text = template.render([{"role": "user", "content": "x"}], tools=[])
        assert "module 'os'" not in text
        assert str(Path.cwd()) not in text


@fuzz
@given(schema=JSON | SCHEMAS)
def test_any_object_is_a_schema_or_has_a_fault(schema: Any) -> None:
    fault = schema_fault(schema)
    assert isinstance(schema, dict | bool) or fault
    assert fault == "" or fault.startswith("#")
