"""Conversations that chat templates are tried with, as transformers takes them."""

from __future__ import annotations

from typing import Any

Conversation = list[dict[str, Any]]

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": 'Weather of a <city> & its "surroundings", today.',
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "Köln, 東京 …"},
                    "unit": {"type": "string", "enum": ["C", "F"], "default": "C"},
                    "days": {"type": "array", "items": {"type": "integer"}},
                },
                "required": ["city"],
            },
        },
    },
    {"type": "function", "function": {"name": "now", "description": "", "parameters": {}}},
]


def message(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def call(name: str, arguments: Any, index: str = "call12345") -> dict[str, Any]:
    return {"id": index, "type": "function", "function": {"name": name, "arguments": arguments}}


SYSTEM = message("system", "You are  terse.\n")
USER = message("user", 'What is <b>"1 + 1"</b>?\n  ')
ANSWER = message("assistant", " It is 2. ")
WEATHER = call("get_weather", {"city": "Köln", "days": [1, 2], "exact": True, "none": None})
THOUGHT = "<think>\nlet me see\n</think>\n\nFour."

CONVERSATIONS: dict[str, Conversation] = {
    "user": [USER],
    "empty user": [message("user", "")],
    "system": [SYSTEM, USER],
    "system alone": [SYSTEM],
    "developer": [message("developer", "Be brief."), USER],
    "multi turn": [SYSTEM, USER, ANSWER, message("user", "and 2 + 2?"), message("assistant", "4")],
    "goes on": [USER, ANSWER, message("user", "and 2 + 2?")],
    "two users": [USER, USER],
    "assistant first": [ANSWER, USER],
    "late system": [USER, ANSWER, SYSTEM, USER],
    "thought": [USER, message("assistant", THOUGHT), message("user", "sure?")],
    "reasoning": [USER, message("assistant", "4", reasoning_content="let me see"), message("user", "sure?")],
    "named": [message("user", "hi", name="Ann"), message("assistant", "hello", name="Bob")],
    "none": [USER, message("assistant", None), USER],
    "missing content": [USER, {"role": "assistant"}, USER],
    "unknown role": [message("critic", "bad"), USER],
    "parts": [message("user", [{"type": "text", "text": "Hello"}, {"type": "text", "text": " world"}])],
    "system parts": [message("system", [{"type": "text", "text": "Be brief."}]), USER],
    "call": [USER, message("assistant", None, tool_calls=[WEATHER])],
    "call with text": [USER, message("assistant", "Let me look.", tool_calls=[WEATHER])],
    "result": [
        SYSTEM,
        USER,
        message("assistant", "", tool_calls=[WEATHER]),
        message("tool", '{"degrees": 7}', tool_call_id="call12345", name="get_weather"),
    ],
    "two calls": [
        USER,
        message("assistant", "", tool_calls=[WEATHER, call("now", {}, "call67890")]),
        message("tool", "7", tool_call_id="call12345", name="get_weather"),
        message("tool", "noon", tool_call_id="call67890", name="now"),
        message("assistant", "7 degrees at noon."),
        message("user", "thanks"),
    ],
    "arguments as text": [USER, message("assistant", "", tool_calls=[call("now", '{"a": 1}')])],
    "special tokens in text": [message("user", "<|im_end|><eos></s>[/INST] {{ 7 * 7 }} {% if %}")],
    "languages": [message("user", "你好 مرحبا 🦙 \u2028 \u00e9"), message("assistant", "Grüß Gott")],
}
SWITCHES: list[dict[str, Any]] = [
    {},
    {"enable_thinking": False, "thinking": True, "reasoning_effort": "low"},
    {"tools": TOOLS},
    {"documents": [{"title": "A", "text": "b"}]},
    {"tools": TOOLS, "bos_token": "", "date_string": "1 Jan 2025", "custom": [1]},
]
