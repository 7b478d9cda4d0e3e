"""Guided answers, the same for every engine that can."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from openllm.chat.token_bytes import token_bytes
from openllm.chat.tokenizer import ChatTokenizer, load_tokenizer
from openllm.engines.base import EngineConfig, Generation, Guide
from openllm.engines.openvino_guided import MANY_COMPILED
from openllm.errors import RequestError, UnsupportedParameter
from tests.engines.child import EngineChild, generation
from tests.engines.conftest import EXACT, Start

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "city": {"enum": ["Paris", "London"]},
        "tags": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 2},
    },
    "required": ["name", "age", "city", "tags"],
    "additionalProperties": False,
}
PROMPT = "<|im_start|>user\nTell me about Anna, 31, who lives in Paris, as JSON.<|im_end|>\n<|im_start|>assistant\n"
CHOICES = ["Paris", 'Lon"don', "caf\u00e9\n\\", "\U0001f600"]
GRAMMAR = 'root ::= "yes" | "no" (" " letter){2}\nletter ::= [a-c]'


@pytest.fixture(params=["openvino", "vllm", "transformers"])
def engine(
    request: pytest.FixtureRequest, start: Start, configure: Callable[..., EngineConfig]
) -> Iterator[EngineChild]:
    if find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    child = start(configure(request.param, **EXACT[request.param]))
    yield child
    assert not child.busy(), "a test left a sequence"


@pytest.fixture(scope="module")
def tokenizer(smollm2_gguf: Path) -> ChatTokenizer:
    return load_tokenizer(smollm2_gguf)


Ask = Callable[..., Generation]


@pytest.fixture(scope="module")
def ask(tokenizer: ChatTokenizer) -> Ask:
    def make(guide: Guide | None, max_tokens: int = 100, **sampling: Any) -> Generation:
        prompt = tokenizer.encode(PROMPT, add_special_tokens=False)
        settings = {"stop_ids": tokenizer.stop_ids, "guide": guide, **sampling}
        return generation(prompt, max_tokens, **settings)

    return make


@pytest.fixture
def answer(engine: EngineChild, tokenizer: ChatTokenizer) -> Callable[[Generation], str]:
    def run(request: Generation) -> str:
        tokens, finish = engine.run(request)[request.id]
        assert finish == "stop", tokenizer.decode(tokens)
        return tokenizer.decode(tokens, skip_special_tokens=False)

    return run


def refusal(engine: EngineChild, request: Generation) -> str:
    """Why a request is refused, at once or with its first delta."""
    try:
        engine.add(request)
    except RequestError as error:
        param, said = error.param, str(error)
    else:
        (delta,) = engine.steps()
        assert (delta.id, delta.finish, delta.kind) == (request.id, "error", "RequestError")
        param, said = delta.param, delta.error
    assert param == "response_format"
    return said


@pytest.mark.parametrize(
    "sampling", [{"temperature": 0.0}, {"temperature": 0.5, "seed": 1, "top_p": 0.5}], ids=str
)
class TestKinds:
    def test_regex(self, answer: Callable[[Generation], str], ask: Ask, sampling: dict[str, Any]) -> None:
        pattern = r"(Anna|Bob) is \d{2,3} years? old\."
        assert re.fullmatch(pattern, answer(ask(Guide("regex", pattern), **sampling)))

    def test_choice(self, answer: Callable[[Generation], str], ask: Ask, sampling: dict[str, Any]) -> None:
        for choices in (CHOICES, CHOICES[1:], CHOICES[2:], CHOICES[3:]):
            assert answer(ask(Guide("choice", json.dumps(choices)), **sampling)) in choices

    def test_grammar(self, answer: Callable[[Generation], str], ask: Ask, sampling: dict[str, Any]) -> None:
        assert re.fullmatch("yes|no( [a-c]){2}", answer(ask(Guide("grammar", GRAMMAR), **sampling)))


def test_json_schema(engine: EngineChild, ask: Ask, tokenizer: ChatTokenizer) -> None:
    """A small model may write much white space; what it completes is valid."""
    guide = Guide("json_schema", json.dumps(PERSON))
    requests = [ask(guide, 80), *(ask(guide, 80, temperature=0.7, top_p=0.5, seed=seed) for seed in range(3))]
    result = engine.run(*requests)
    texts = [tokenizer.decode(tokens) for tokens, _ in result.values()]
    if engine.config.engine == "openvino":  # the others allow any white space
        assert not any(re.search(r"\s{33}", text) for text in texts)
    complete = [tokenizer.decode(tokens) for tokens, finish in result.values() if finish == "stop"]
    assert complete
    for text in complete:
        jsonschema.validate(json.loads(text), PERSON)


def test_json_object_begins_one(engine: EngineChild, ask: Ask, tokenizer: ChatTokenizer) -> None:
    """A small model goes on for long; what there is of it is the beginning of an object."""
    request = ask(Guide("json_object"), 40)
    tokens, _ = engine.run(request)[request.id]
    assert re.match(r'\s*\{\s*("|\})', tokenizer.decode(tokens))


@pytest.mark.parametrize(
    ("guide", "part"),
    [
        (
            Guide("json_schema", '{"type": "object", "properties": {"a": {"type": "nonsense"}}}'),
            "#/properties/a/type",
        ),
        (Guide("json_schema", '{"type": '), "JSON"),
        (Guide("json_schema", '{"anyOf": []}'), "#/anyOf"),
        (Guide("json_schema", '{"properties": []}'), "#/properties"),
        (Guide("json_schema", '{"type": "object", "required": 5}'), "#/required"),
        (Guide("json_schema", '{"$ref": "#/$defs/nowhere"}'), "nowhere"),
        (Guide("json_schema", '{"type": "string", "pattern": "(a"}'), "(?i)regex|pattern"),
        (Guide("json_schema", '{"items": ' * 40 + "{}" + "}" * 40), "nested"),
        (Guide("json_schema", json.dumps({"enum": ["x" * 70_000]})), "64 KiB"),
        (Guide("regex", "(a"), "regex"),
        (Guide("regex", ""), "empty"),
        (Guide("grammar", "foo"), "grammar"),
        (Guide("choice", "[]"), "choice"),
        (Guide("choice", '["a", 1]'), "choice"),
    ],
    ids=lambda value: f"{value.kind} {value.text[:20]}" if isinstance(value, Guide) else None,
)
def test_what_cannot_be_compiled_is_refused_and_others_go_on(
    engine: EngineChild, ask: Ask, guide: Guide, part: str
) -> None:
    """Twice: the second time the engine knows it."""
    for _ in range(2):
        assert re.search(part, refusal(engine, ask(guide)))
    plain = ask(None, 3)
    assert engine.run(plain)[plain.id][1] == "length"


def test_a_guide_needs_an_end(engine: EngineChild, ask: Ask) -> None:
    for sampling, param in (({"stop_ids": ()}, "ignore_eos"), ({"min_tokens": 5}, "min_tokens")):
        with pytest.raises(RequestError) as refused:
            engine.add(ask(Guide("regex", "a"), **sampling))
        assert refused.value.param == param


def test_guided_and_plain_in_one_batch(engine: EngineChild, ask: Ask, tokenizer: ChatTokenizer) -> None:
    plain = ask(None, 12)
    expected = engine.run(plain)[plain.id]
    requests = [
        ask(guide, 12) for guide in (None, Guide("regex", "[ab]{5}"), None, Guide("regex", "[cd]{5}"))
    ]
    result = engine.run(*requests)
    assert [result[request.id] for request in (requests[0], requests[2])] == [expected] * 2
    for request, pattern in ((requests[1], "[ab]{5}"), (requests[3], "[cd]{5}")):
        assert re.fullmatch(pattern, tokenizer.decode(result[request.id][0]))


def test_abort_while_the_guide_is_compiled(engine: EngineChild, ask: Ask) -> None:
    request = ask(Guide("regex", "[a-z]{2,90}"))
    engine.add(request)
    engine.abort(request.id)
    assert list(engine.steps()) == []


def test_a_costly_pattern_does_not_hold_up_the_others(engine: EngineChild, ask: Ask) -> None:
    """It is refused or followed; until that is known, another sequence gets its tokens."""
    plain = ask(None, 1500, stop_ids=())
    engine.add(plain)
    engine.step()
    costly = ask(Guide("regex", "([a-z]{1,2000}[0-9]{1,2000}){1,50}"), 5)
    begun = last = time.monotonic()
    engine.add(costly)
    longest, known = 0.0, False
    while not known:
        deltas = engine.step()
        known = any(delta.id == costly.id for delta in deltas)
        if any(delta.id == plain.id for delta in deltas):
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
    took = time.monotonic() - begun
    for request in (plain, costly):
        engine.abort(request.id)
    assert longest < max(1.0, took / 2)


def test_compiled_guides_are_forgotten_when_there_are_many(
    start: Start, configure: Callable[..., EngineConfig], ask: Ask, tokenizer: ChatTokenizer
) -> None:
    """GenAI would keep them for ever; the limit is lowered to reach it in a test."""
    engine = start(configure("openvino", **EXACT["openvino"]))
    engine.ask(_lower_limit, 2)
    seen = set()
    for number in range(1, 6):
        request = ask(Guide("regex", f"a{{{number}}}"))
        assert tokenizer.decode(engine.run(request)[request.id][0]) == "a" * number
        seen.add(engine.ask(_pipeline_id))
    engine.ask(_lower_limit, MANY_COMPILED)
    assert len(seen) > 1


def _lower_limit(engine: Any, limit: int) -> None:
    import openllm.engines.openvino_guided as module

    module.MANY_COMPILED = limit


def _pipeline_id(engine: Any) -> int:
    return id(engine._guided)


class TestTokenBytes:
    def test_they_spell_the_text(self, tokenizer: ChatTokenizer) -> None:
        tokens = token_bytes(tokenizer.backend, tokenizer.vocabulary)
        text = "Gr\u00fc\u00dfe, \U0001f600!\n\tx = {'a': 1}"
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert b"".join(tokens[index] for index in ids).decode() == text

    def test_special_tokens_have_none(self, tokenizer: ChatTokenizer) -> None:
        tokens = token_bytes(tokenizer.backend, tokenizer.vocabulary + 10)
        assert [tokens[index] for index in tokenizer.stop_ids] == [b""] * len(tokenizer.stop_ids)
        assert tokens[-10:] == [b""] * 10


def test_echo_refuses(start: Start, configure: Callable[..., EngineConfig]) -> None:
    engine = start(configure("echo"))
    with pytest.raises(UnsupportedParameter) as refused:
        engine.add(generation([1, 2], guide=Guide("regex", "a")))
    assert refused.value.param == "response_format"


def test_without_a_tokenizer_openvino_refuses_guides(
    start: Start, configure: Callable[..., EngineConfig], ask: Ask
) -> None:
    engine = start(configure("openvino", tokenizer="", quantization="int8"))
    with pytest.raises(UnsupportedParameter, match=r"tokenizer\.json") as refused:
        engine.add(ask(Guide("regex", "a")))
    assert refused.value.hint
    plain = ask(None, 3)
    assert engine.run(plain)[plain.id][1] == "length"
