"""Every format of calls: what models write, and what they write when it goes wrong."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chat.answers import Read, parser_of, read

PARIS = ("get_weather", {"city": "Paris", "days": [1, 2]})
NOW: tuple[str, dict[str, Any]] = ("now", {})
_BAR, _LOW = "\uff5c", "\u2581"


def deepseek(text: str) -> str:
    """Write a text's marks as DeepSeek does."""
    for name in ("tool calls begin", "tool calls end", "tool call begin", "tool call end", "tool sep"):
        text = text.replace(f"<{name}>", f"<{_BAR}{name.replace(' ', _LOW)}{_BAR}>")
    return text


PARIS_JSON = '{"city": "Paris", "days": [1, 2]}'
ANSWERS: list[tuple[str, str, str, list[tuple[str, Any]]]] = [
    # format, answer, its text, its calls
    ("hermes", "Hello there. \n", "Hello there. \n", []),
    (
        "hermes",
        f'<tool_call>\n{{"name": "get_weather", "arguments": {PARIS_JSON}}}\n</tool_call>',
        "",
        [PARIS],
    ),
    (
        "hermes",
        f'Let me see.\n<tool_call>\n{{"arguments": {PARIS_JSON}, "name": "get_weather"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>\n',
        "Let me see.",
        [PARIS, NOW],
    ),
    ("hermes", '<tool_call>{"name": "now"}</tool_call>', "", [NOW]),
    ("hermes", '<tool_call>{"name": "now", "arguments": null}</tool_call> Done.', " Done.", [NOW]),
    ("hermes", '<tool_call>{"name": "now", "arguments": {}</tool_call>', "", [NOW]),
    ("hermes", '<tool_call>{"name": "now", "arguments": {}}}}</tool_call>', "", [NOW]),
    ("hermes", '<tool_call>{"name": "now", "arguments": {}}', "", [NOW]),
    (
        "hermes",
        '<tool_call>{"id": 7, "name": "get_weather", "arguments": "{\\"city\\": \\"Paris\\"}"}</tool_call>',
        "",
        [("get_weather", {"city": "Paris"})],
    ),
    (
        "hermes",
        '<tool_call>{"name": "get_weather", "arguments": {"city": "</tool_call> \\"}{"}}</tool_call>',
        "",
        [("get_weather", {"city": '</tool_call> "}{'})],
    ),
    (
        "hermes",
        f'<tool_calls>[{{"name": "get_weather", "arguments": {PARIS_JSON}}}, {{"name": "now", "arguments": {{}}}}]'
        "</tool_calls>",
        "",
        [PARIS, NOW],
    ),
    ("llama3_json", f'{{"name": "get_weather", "parameters": {PARIS_JSON}}}', "", [PARIS]),
    (
        "llama3_json",
        f'<|python_tag|>{{"type": "function", "name": "get_weather", "parameters": {PARIS_JSON}}}; '
        '{"name": "now", "parameters": {}}',
        "",
        [PARIS, NOW],
    ),
    (
        "llama3_json",
        f'I will look.<|python_tag|>{{"name": "get_weather", "parameters": {PARIS_JSON}}}',
        "I will look.",
        [PARIS],
    ),
    ("llama3_json", '{"name": "Bob", "parameters": {}}', '{"name": "Bob", "parameters": {}}', []),
    ("llama3_json", '{"name": "now", "age": 5}', '{"name": "now", "age": 5}', []),
    ("llama3_json", ' {"a": [1, {}]} and so on', ' {"a": [1, {}]} and so on', []),
    ("llama3_json", "No JSON; at all", "No JSON; at all", []),
    (
        "mistral",
        f'[TOOL_CALLS][{{"name": "get_weather", "arguments": {PARIS_JSON}, "id": "abcdefghi"}}, '
        '{"name": "now", "arguments": {}, "id": "123456789"}]',
        "",
        [PARIS, NOW],
    ),
    (
        "mistral",
        f"Well.[TOOL_CALLS]get_weather[ARGS]{PARIS_JSON}[TOOL_CALLS]now[CALL_ID]123456789[ARGS]{{}}",
        "Well.",
        [PARIS, NOW],
    ),
    ("mistral", f"[TOOL_CALLS]get_weather{PARIS_JSON}", "", [PARIS]),
    (
        "deepseek_v3",
        deepseek(
            f"I look.<tool calls begin><tool call begin>get_weather<tool sep>{PARIS_JSON}<tool call end>"
            "<tool call begin>now<tool sep>{}<tool call end><tool calls end>"
        ),
        "I look.",
        [PARIS, NOW],
    ),
    (
        "deepseek_v3",
        deepseek(
            f"<tool calls begin><tool call begin>function<tool sep>get_weather\n```json\n{PARIS_JSON}\n```"
            "<tool call end>\n<tool call begin>function<tool sep>now\n```json\n{}\n```<tool call end><tool calls end>"
        ),
        "",
        [PARIS, NOW],
    ),
    (
        "kimi",
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>"
        f"{PARIS_JSON}<|tool_call_end|><|tool_call_begin|>functions.now:1<|tool_call_argument_begin|>{{}}"
        "<|tool_call_end|><|tool_calls_section_end|>",
        "",
        [PARIS, NOW],
    ),
    (
        "glm",
        "Now:\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n<arg_key>days</arg_key>\n"
        "<arg_value>[1, 2]</arg_value>\n</tool_call>\n<tool_call>now</tool_call>",
        "Now:",
        [PARIS, NOW],
    ),
    (
        "glm",
        '<tool_call>get_weather<arg_key>city</arg_key><arg_value>12 "x"\n</arg_value><arg_key>unit</arg_key>'
        "<arg_value>C</arg_value><arg_key>where</arg_key><arg_value>{}</arg_value><arg_key>note</arg_key>"
        "<arg_value>null</arg_value><arg_key>new</arg_key><arg_value>5</arg_value></tool_call>",
        "",
        [("get_weather", {"city": '12 "x"\n', "unit": "C", "where": {}, "note": None, "new": 5})],
    ),
    (
        "qwen3_xml",
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n<parameter=days>\n[1, 2]\n"
        "</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=now>\n</function>\n</tool_call>",
        "",
        [PARIS, NOW],
    ),
    (
        "qwen3_xml",
        "<function=get_weather><parameter=city>a\n\nb<c></parameter>\n<parameter=exact>\nTrue\n<parameter=note>\n7"
        "\n</function>",
        "",
        [("get_weather", {"city": "a\n\nb<c>", "exact": True, "note": "7"})],
    ),
    (
        "granite",
        f'<|tool_call|>[{{"name": "get_weather", "arguments": {PARIS_JSON}}}, {{"name": "now", "arguments": {{}}}}]',
        "",
        [PARIS, NOW],
    ),
    (
        "phi4",
        f'<|tool_call|>[{{"name": "get_weather", "arguments": {PARIS_JSON}}}]<|/tool_call|>',
        "",
        [PARIS],
    ),
    ("phi4", 'functools[{"name": "now", "arguments": {}}]', "", [NOW]),
    ("phi4", "Python's functools has a cache.", "Python's functools has a cache.", []),
    ("pythonic", '[get_weather(city="Paris", days=[1, 2]), now()]', "", [PARIS, NOW]),
    (
        "pythonic",
        "Sure <|tool_call_start|>[get_weather(city='Par\\'is\\n\\u00e9', exact=True, where={'a': (1, None)}, days=[])]"
        "<|tool_call_end|>",
        "Sure",
        [("get_weather", {"city": "Par'is\né", "exact": True, "where": {"a": [1, None]}, "days": []})],
    ),
    ("pythonic", "[1, 2] is a list", "[1, 2] is a list", []),
    ("pythonic", "[print(1)]", "[print(1)]", []),
    (
        "gemma",
        '<|tool_call>call:get_weather{city:<|"|>Pa"ris<|"|>,days:[1,2],where:{a:None,b:true}}<tool_call|>',
        "",
        [("get_weather", {"city": 'Pa"ris', "days": [1, 2], "where": {"a": None, "b": True}})],
    ),
    ("gemma", "<start_function_call>call:now{}<end_function_call>", "", [NOW]),
    (
        "harmony",
        "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant<|channel|>commentary to=functions.get_weather"
        f" <|constrain|>json<|message|>{PARIS_JSON}<|call|>",
        "I look.",
        [PARIS],
    ),
    ("harmony", " to=functions.now<|channel|>commentary json<|message|>{}", "", [NOW]),
    ("harmony", "Just text, no channel.", "Just text, no channel.", []),
    (
        "harmony",
        "<|channel|>final<|message|>One<|end|><|start|>assistant<|channel|>final<|message|>Two<|return|>",
        "One\n\nTwo",
        [],
    ),
    (
        "harmony",
        "<|channel|>commentary to=browser.search code<|message|>{}<|end|>",
        "<|channel|>commentary to=browser.search code<|message|>{}",
        [],
    ),
]


@pytest.mark.parametrize(("tools", "answer", "text", "calls"), ANSWERS)
def test_calls_are_read(tools: str, answer: str, text: str, calls: list[tuple[str, Any]]) -> None:
    found = read(parser_of(tools), answer)
    assert (found.text, found.reasoning, found.parsed()) == (text, "", calls)
    assert read(parser_of(tools), *answer) == found


NO_CALLS = [
    ("hermes", "<tool_call>weather in Paris</tool_call>"),
    ("hermes", '<tool_call>{"name": 5, "arguments": {}}</tool_call>'),
    ("hermes", '<tool_call>{"name": "now", "arguments": [1]}</tool_call>'),
    ("hermes", '<tool_call>{"name": "now", "arguments": "soon"}</tool_call>'),
    ("hermes", '<tool_call>{"arguments": {}}</tool_call>'),
    ("hermes", '<tool_call>{"name": "now"'),
    ("hermes", "a <tool_call"),
    ("llama3_json", '<|python_tag|>brave_search.call(query="x")'),
    ("mistral", "[TOOL_CALLS]"),
    ("mistral", "[TOOL_CALLS][1]"),
    ("mistral", "[TOOL_CALLS]get weather"),
    ("kimi", "<|tool_call_begin|>now<|tool_call_argument_begin|>5<|tool_call_end|>"),
    ("deepseek_v3", deepseek("<tool call begin>now<tool call end>")),
    ("glm", '<tool_call>{"name": "now"}</tool_call>'),
    ("qwen3_xml", '<tool_call>\n{"name": "now"}\n</tool_call>'),
    ("qwen3_xml", "<function=>"),
    ("granite", "<|tool_call|>[]"),
    ("phi4", "functools"),
    ("pythonic", "<|tool_call_start|>nothing<|tool_call_end|>"),
    ("gemma", "<|tool_call>now{}<tool_call|>"),
    ("harmony", "<|channel|>final no message"),
    ("harmony", "text<|channel|>"),
    ("harmony", "text to=functions.now<|message|>{}"),
]


@pytest.mark.parametrize(("tools", "answer"), NO_CALLS)
def test_what_is_no_call_after_all_is_text(tools: str, answer: str) -> None:
    assert read(parser_of(tools), *answer) == Read(answer, "", ())


CUT = [
    ("hermes", '<tool_call>{"name": "get_weather", "arguments": {"city": "Pa', '{"city": "Pa'),
    ("llama3_json", '{"name": "get_weather", "parameters": {"days": [1,', '{"days": [1,'),
    ("mistral", "[TOOL_CALLS]get_weather[ARGS]{", "{"),
    ("glm", "<tool_call>get_weather<arg_key>city</arg_key><arg_value>Pa", '{"city": "Pa'),
    (
        "qwen3_xml",
        "<tool_call>\n<function=get_weather>\n<parameter=days>\n[1]\n</parameter>\n",
        '{"days": [1]',
    ),
    ("pythonic", '[get_weather(city="Pa', '{"city": "Pa'),
    ("gemma", '<|tool_call>call:get_weather{city:<|"|>Pa', '{"city": "Pa'),
    ("harmony", '<|channel|>commentary to=functions.get_weather<|message|>{"ci', '{"ci'),
]


@pytest.mark.parametrize(("tools", "answer", "arguments"), CUT)
def test_a_call_that_was_cut_off_keeps_what_came(tools: str, answer: str, arguments: str) -> None:
    assert read(parser_of(tools), *answer) == Read("", "", (("get_weather", arguments),))


@pytest.mark.parametrize(
    ("tools", "pieces", "given"),
    [
        ("hermes", ('<tool_call>{"name": "get_weather", "arguments": {"city": "Pa', "ris"), '{"city": "Pa'),
        ("glm", ("<tool_call>get_weather<arg_key>city</arg_key><arg_value>Pa", "ris"), '{"city": "Pa'),
        ("pythonic", ("[get_weather(city='Pa", "ris"), '{"city": "Pa'),
    ],
)
def test_arguments_are_given_as_they_come(tools: str, pieces: tuple[str, str], given: str) -> None:
    parser = parser_of(tools)
    assert read_now(parser.push(pieces[0])) == given
    assert read_now(parser.push(pieces[1])) == pieces[1]


def read_now(events: list[Any]) -> str:
    return "".join(event.arguments for event in events)


@pytest.mark.parametrize(
    ("tools", "answer", "text", "calls"), [entry for entry in ANSWERS if len(entry[3]) > 1]
)
def test_an_answer_ends_after_the_most_calls(
    tools: str, answer: str, text: str, calls: list[tuple[str, Any]]
) -> None:
    parser = parser_of(tools, most=1)
    found = read(parser, *answer)
    assert parser.complete
    assert (found.text, found.parsed()) == (text, calls[:1])
