"""Answers of a given form, by the official client, on a real engine."""

from __future__ import annotations

import concurrent.futures
import json
import re
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel, Field

from tests.serving import MODEL, Served, serving

Messages = list[Any]


class Person(BaseModel):
    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=150)
    city: Literal["Paris", "London"]


@pytest.fixture(scope="module")
def real() -> Iterator[Served]:
    with serving(MODEL, "--backend", "openvino") as server:
        server.until_ready()
        yield server


@pytest.fixture(scope="module")
def client(real: Served) -> openai.OpenAI:
    return real.client


def about_anna() -> Messages:
    return [{"role": "user", "content": "Tell me about Anna, who is 31 and lives in Paris, as JSON."}]


def ask(client: openai.OpenAI, **options: Any) -> str:
    answer = client.chat.completions.create(
        model=MODEL, messages=about_anna(), temperature=0, **{"max_tokens": 100, **options}
    )
    assert answer.choices[0].finish_reason == "stop", answer
    return answer.choices[0].message.content or ""


def schema(**changes: Any) -> Any:
    body = {**Person.model_json_schema(), **changes}
    return {"type": "json_schema", "json_schema": {"name": "person", "schema": body, "strict": True}}


def test_parse_gives_an_object(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model=MODEL, messages=about_anna(), temperature=0, response_format=Person
    )
    assert answer.choices[0].message.parsed == Person(name="Anna", age=31, city="Paris")


def test_streamed_text_is_whole_text(client: openai.OpenAI) -> None:
    chunks = client.chat.completions.create(
        model=MODEL,
        messages=about_anna(),
        temperature=0,
        stream=True,
        response_format=schema(),
        max_tokens=100,
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == ask(client, response_format=schema())
    Person.model_validate_json(text)


def test_each_of_several_choices_fits(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=about_anna(), n=4, seed=1, top_p=0.8, response_format=schema(), max_tokens=200
    )
    for choice in answer.choices:
        if choice.finish_reason == "stop":
            Person.model_validate_json(choice.message.content or "")
    assert any(choice.finish_reason == "stop" for choice in answer.choices)


@pytest.mark.parametrize(
    ("outputs", "pattern"),
    [
        ({"regex": r"Anna is \d\d\."}, r"Anna is \d\d\."),
        ({"choice": ["Anna", "Bob"]}, "Anna|Bob"),
        ({"grammar": 'root ::= "Anna " ("is" | "was") " here"'}, "Anna (is|was) here"),
        ({"json": {"enum": [1, "x", None]}}, '1|"x"|null'),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_other_forms(client: openai.OpenAI, outputs: dict[str, Any], pattern: str) -> None:
    assert re.fullmatch(pattern, ask(client, extra_body={"structured_outputs": outputs}))
    text = client.completions.create(
        model=MODEL, prompt="Anna", temperature=0, max_tokens=50, extra_body={"structured_outputs": outputs}
    )
    assert re.fullmatch(pattern, text.choices[0].text)


def test_json_object(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=about_anna(),
        temperature=0,
        max_tokens=200,
        frequency_penalty=0.5,
        response_format={"type": "json_object"},
    )
    text = answer.choices[0].message.content or ""
    assert text.lstrip().startswith("{")
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(text), dict)


class TestRefusals:
    """Each is a 400 that names the part, and the server goes on."""

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize(
        ("options", "param", "part"),
        [
            ({"response_format": schema(type="nonsense")}, "response_format.json_schema.schema", "#/type"),
            ({"response_format": schema(**{"not": {}})}, "response_format.json_schema.schema", "#/not"),
            ({"response_format": {"type": "xml"}}, "response_format", "xml"),
            ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing"),
            (
                {"extra_body": {"structured_outputs": {"regex": "(a"}}},
                "structured_outputs.regex",
                "parenthesis",
            ),
            ({"extra_body": {"structured_outputs": {}}}, "structured_outputs", "exactly one"),
            (
                {"extra_body": {"structured_outputs": {"regex": "a", "choice": ["b"]}}},
                "structured_outputs",
                "exactly one",
            ),
            (
                {
                    "response_format": {"type": "json_object"},
                    "extra_body": {"structured_outputs": {"regex": "a"}},
                },
                "structured_outputs",
                "response_format",
            ),
            (
                {"response_format": {"type": "json_object"}, "extra_body": {"ignore_eos": True}},
                "ignore_eos",
                "end token",
            ),
        ],
    )
    def test_named(
        self, client: openai.OpenAI, options: dict[str, Any], param: str, part: str, stream: bool
    ) -> None:
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model=MODEL, messages=about_anna(), stream=stream, **options)
        assert refused.value.param == param
        assert part in refused.value.message
        assert ask(client, extra_body={"structured_outputs": {"choice": ["yes"]}}) == "yes"

    def test_among_others(self, client: openai.OpenAI) -> None:
        """Bad schemas between good ones, at once."""

        def one(number: int) -> str:
            if number % 3:
                return ask(client, extra_body={"structured_outputs": {"regex": f"a{{{number}}}"}})
            with pytest.raises(openai.BadRequestError):
                ask(client, extra_body={"structured_outputs": {"regex": f"(a{{{number}}}"}})
            return ""

        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            texts = list(pool.map(one, range(1, 25)))
        assert texts == ["" if number % 3 == 0 else "a" * number for number in range(1, 25)]
