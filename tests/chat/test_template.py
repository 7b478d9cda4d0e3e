from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models

from openllm.chat import template
from openllm.chat.template import MAX_TEXT, ChatTemplate
from openllm.errors import RequestError, UsageError
from tests.chat.conversations import CONVERSATIONS, SWITCHES, TOOLS, USER

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
FOLDER = Path(__file__).resolve().parents[3] / "shared" / "templates"
TEMPLATES = sorted(FOLDER.glob("*.jinja"))

Apply = Callable[..., str]


@pytest.fixture(scope="module")
def apply_chat_template() -> Apply:
    """transformers' own, on a tokenizer of no words."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers = pytest.importorskip("transformers", reason="transformers is the reference")
        backend = Tokenizer(models.WordLevel({token: index for index, token in enumerate(SPECIAL.values())}))
        tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **SPECIAL)

    def apply(source: str, messages: object, **options: Any) -> str:
        text: str = tokenizer.apply_chat_template(messages, chat_template=source, tokenize=False, **options)
        return text

    return apply


@pytest.mark.skipif(not TEMPLATES, reason="there is no folder of reference templates beside the repository")
@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_renders_as_transformers(path: Path, apply_chat_template: Apply) -> None:
    source = path.read_text()
    ours = ChatTemplate(source, SPECIAL)
    rendered = 0
    for name, messages in CONVERSATIONS.items():
        for switches in SWITCHES:
            for prompt in (True, False):
                options = {**switches, "add_generation_prompt": prompt}
                try:
                    expected = apply_chat_template(source, messages, **options)
                except Exception:  # a template's refusal, or any error of Python's in it
                    with pytest.raises(RequestError):
                        ours.render(messages, **options)
                    continue
                assert ours.render(messages, **options) == expected, (name, options)
                rendered += 1
    assert rendered > 50


FEATURES = {
    "trimmed blocks": "{% if true %}\n  a\n{% endif %}\n  {% if true %}b{% endif %}\nc\n",
    "loop control": "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% elif i == 4 %}{% break %}{% endif %}{{ i }}{% else %}x{% endfor %}",  # noqa: E501
    "generation": "a{% generation %}{{ messages[0].content }}{% endgeneration %}b",
    "tojson": "{{ {'b': 'é<&>\\'', 'a': [1, none, true, 1.5]} | tojson }}{{ tools | tojson(indent=2) }}{{ [1] | tojson(separators=(',', ':')) }}",  # noqa: E501
    "concatenation": "{{ 'a' ~ 1 ~ none ~ missing ~ [1] ~ 2.5 }}{{ 'x' + 'y' }}{{ [1] + [2] }}{{ 'ab' * 3 }}{{ '%s-%d' % ('a', 3) }}{{ 2 ** 10 }}",  # noqa: E501
    "namespace": "{% set ns = namespace(n=0) %}{% for m in [1, 2, 3] %}{% set ns.n = ns.n + m %}{% endfor %}{{ ns.n }}",
    "macro": "{% macro f(x, y='d') %}<{{ x }}{{ y }}{{ caller is defined }}>{% endmacro %}{{ f('a') }}{{ f(1, y=2) }}",
    "call block": "{% macro f() %}[{{ caller() }}]{% endmacro %}{% call f() %}in{% endcall %}",
    "recursion": "{% for x in [[1, [2]], [3]] recursive %}{{ loop(x) if x is iterable else x }}{% endfor %}",
    "loop variables": "{% for x in 'abc' %}{{ loop.index }}{{ loop.last }}{{ loop.previtem }}{% endfor %}",
    "filter block": "{% filter upper %}abc{{ 'd' ~ 'e' }}{% endfilter %}",
    "set block": "{% set x %}a{{ 1 }}{% endset %}{{ x | trim }}{{ x is string }}",
    "methods": "{{ 'a,b'.split(',')[-1] }}{{ ' x '.strip() }}{{ {'a': 1}.items() | list }}{{ 'a{}'.format(1) }}",
    "special tokens": "{{ bos_token }}|{{ eos_token }}|{{ pad_token }}|{{ unk_token }}|{{ sep_token }}",
    "undefined": "{{ missing }}{{ missing is defined }}{{ messages[0].missing }}{{ missing or 'x' }}",
    "date": "{{ strftime_now('%Y') }}",
    "tests": "{{ none is none }}{{ 1 is number }}{{ 'a' is string }}{{ {} is mapping }}{{ 'a' in 'abc' }}",
    "escapes": "{{ '<a href=\"x\">&' }}{{ '\\n' }}\n\n",
    "raise": "{{ raise_exception('No. ' ~ 7) }}",
    "undefined attribute": "{{ missing.x.y }}",
    "undefined addition": "{{ missing + 'x' }}",
    "division by zero": "{{ 1 / 0 }}",
    "mutation": "{% set _ = messages.append(1) %}",
    "json of the undefined": "{{ missing | tojson }}",
    "range": "{{ range(1000000000) | list }}",
}


@pytest.mark.parametrize("source", FEATURES.values(), ids=FEATURES)
def test_every_feature_as_transformers(source: str, apply_chat_template: Apply) -> None:
    ours = ChatTemplate(source, SPECIAL)
    for tools in (None, TOOLS):
        try:
            expected = apply_chat_template(source, [USER], tools=tools)
        except Exception:  # whatever the reference refuses
            with pytest.raises(RequestError):
                ours.render([USER], tools=tools, add_generation_prompt=False)
        else:
            assert ours.render([USER], tools=tools, add_generation_prompt=False) == expected


def render(source: str, **values: Any) -> str:
    return ChatTemplate(source, {"bos_token": "<s>", "eos_token": None}).render([USER], **values)


def test_special_tokens_that_a_model_lacks_are_undefined() -> None:
    assert render("{{ bos_token }}{{ eos_token is defined }}") == "<s>False"


def test_switches_win_over_special_tokens() -> None:
    assert render("{{ bos_token }}", bos_token="") == ""


def test_refusal_is_one_plain_line() -> None:
    with pytest.raises(RequestError) as caught:
        render("{{ raise_exception('Roles must\n\talternate!') }}")
    assert caught.value.message == "The chat template refused the messages: Roles must alternate!"
    assert caught.value.param == "messages"
    assert caught.value.hint


def test_no_messages() -> None:
    with pytest.raises(RequestError, match="messages is empty"):
        ChatTemplate("x", {}).render([])


@pytest.mark.parametrize(
    "source",
    ["{% if %}", "{{ a", "{% for x in y %}", "{% nope %}", "{{ x | nope }}", "(" * 3 + "{{" + "(" * 9999],
)
def test_broken_template_is_a_usage_error(source: str) -> None:
    with pytest.raises(UsageError, match="chat template") as caught:
        ChatTemplate(source, {})
    assert "\n" not in caught.value.message


def test_line_of_a_mistake_is_named() -> None:
    with pytest.raises(UsageError, match=r"\(line 3\)"):
        ChatTemplate("a\nb\n{% if %}", {})


ESCAPES = (
    "{{ ''.__class__.__mro__ }}",
    "{{ messages.__class__.__base__.__subclasses__() }}",
    "{{ ''['__class__'] }}",
    "{{ '' | attr('__class__') }}",
    "{{ raise_exception.__globals__ }}",
    "{{ strftime_now.__code__ }}",
    "{{ self.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ lipsum.__globals__['os'] }}",
    "{{ '{0.__class__}'.format('') }}",
    "{{ ('{0.__class__' ~ '}').format_map({'0': ''}) }}",
    "{{ namespace.__init__.__globals__ }}",
    "{% for k in (messages.__iter__).__self__ %}{% endfor %}{{ messages.append.__self__.__class__ }}",
    "{{ messages[0].update({'role': 'x'}) }}",
    "{{ messages.pop() }}",
    "{{ environment.from_string }}{{ environment.x.y }}",
    "{% import 'os' as os %}",
    "{% include '/etc/passwd' %}",
    "{% extends '/etc/passwd' %}",
)


@pytest.mark.parametrize("source", ESCAPES)
def test_sandbox_holds(source: str) -> None:
    """What is forbidden is undefined: it raises when used, and prints as nothing."""
    messages = [{"role": "user", "content": "x"}]
    with suppress(RequestError):
        assert ChatTemplate(source, {}).render(messages) == ""
    assert messages == [{"role": "user", "content": "x"}]


BOMBS = {
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "slow loops": "{% for a in range(99999) %}{% set x = 'x' * 9999999 %}{% endfor %}",
    "squared": "{% set n = namespace(i=9) %}{% for i in range(99) %}{% set n.i = n.i * n.i %}{% endfor %}",
    "recursive macro": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "fanning macro": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "repeated text": "{{ 'x' * 1000000000 }}",
    "repeated list": "{{ [1] * 1000000000 }}",
    "repeated from the left": "{{ 1000000000 * 'x' }}",
    "power": "{{ 10 ** 1000000000 }}",
    "powers": "{{ 9 ** (9 ** 9) }}",
    "width": "{{ '%1000000000d' % 1 }}",
    "starred width": "{{ '%*d' % (1000000000, 1) }}",
    "doubled by ~": "{% set n = namespace(t='x') %}{% for i in range(99) %}{% set n.t = n.t ~ n.t %}{% endfor %}",
    "doubled by +": "{% set n = namespace(t='x') %}{% for i in range(99) %}{% set n.t = n.t + n.t %}{% endfor %}",
    "output": "{% set x = 'x' * 100000 %}{% for i in range(9999) %}{{ x }}{% endfor %}",
}


@pytest.mark.parametrize("source", BOMBS.values(), ids=BOMBS)
def test_bounds(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template, "MAX_SECONDS", 0.5)
    began = time.monotonic()
    with pytest.raises(
        RequestError, match=r"runs for too long|over \d+ characters|over \d+ bits|great width|recursion"
    ):
        render(source)
    assert time.monotonic() - began < 10


def test_numbers_are_not_taken_for_sizes() -> None:
    assert render(
        "{{ 123456789 * 987654321 }} {{ 2 ** 64 }} {{ 2.5 * 1e9 }} {{ 7 % 4 }} {{ 'ab' * -1 }}"
    ) == ("121932631112635269 18446744073709551616 2500000000.0 3 ")


def test_long_chats_are_within_bounds() -> None:
    text = "word " * 200_000
    source = (
        "{% for message in messages %}{{ '<|im_start|>' + message['content'] ~ '<|im_end|>' }}{% endfor %}"
    )
    rendered = ChatTemplate(source, {}).render([{"role": "user", "content": text}] * 10)
    assert len(rendered) == 10 * (len(text) + 22) < MAX_TEXT


def test_threads_have_bounds_of_their_own() -> None:
    shared = ChatTemplate("{% for i in range(2000) %}{% endfor %}{{ messages[0].content }}", {})
    results: list[str] = []

    def work(index: int) -> None:
        results.extend(shared.render([{"role": "user", "content": str(index)}]) for _ in range(5))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == sorted(str(index) for index in range(8) for _ in range(5))
