"""`openllm start smollm2 --backend transformers`, as floats and by bitsandbytes, asked by the official client."""

from __future__ import annotations

import concurrent.futures
import json
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from tests.serving import MODEL, Served, serving

QUESTION = "What is the capital of France?"
NEEDS = {"": "transformers", "int8": "bitsandbytes", "int4": "bitsandbytes"}


@pytest.fixture(scope="module", params=NEEDS, ids=lambda mode: mode or "floats")
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    if find_spec(NEEDS[request.param]) is None:
        pytest.skip(f"{NEEDS[request.param]} is not installed")
    data = str(tmp_path_factory.mktemp("data"))
    quantize = ("--quantize", request.param) if request.param else ()
    with serving(MODEL, "--backend", "transformers", *quantize, "--data-dir", data) as server:
        server.until_ready(240)
        yield server


def ask(served: Served, content: str, **options: Any) -> Any:
    messages: Any = [{"role": "user", "content": content}]
    settings: dict[str, Any] = {"temperature": 0, "max_tokens": 24, **options}
    return served.client.chat.completions.create(model=MODEL, messages=messages, **settings)


def test_it_knows_the_capital_of_france(real: Served) -> None:
    whole = ask(real, QUESTION).choices[0].message.content
    parts = [chunk.choices[0].delta.content or "" for chunk in ask(real, QUESTION, stream=True)]
    assert "Paris" in whole
    assert "".join(parts) == whole
    assert len(parts) > 3


def test_several_at_once(real: Served) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(real, QUESTION), range(8)))
    assert all("Paris" in answer.choices[0].message.content for answer in answers)


def test_what_a_request_may_ask_for(real: Served) -> None:
    seeded = {
        "temperature": 1.2,
        "seed": 7,
        "top_p": 0.9,
        "frequency_penalty": 0.5,
        "logit_bias": {"99": -100},
    }
    first, second = (ask(real, "Tell me a story.", **seeded).choices[0].message.content for _ in range(2))
    assert first == second
    told = ask(real, QUESTION, logprobs=True, top_logprobs=2, max_tokens=3).choices[0].logprobs.content
    assert [len(place.top_logprobs) for place in told] == [2, 2, 2]
    schema = {"type": "object", "properties": {"a": {"type": "integer", "maximum": 9}}, "required": ["a"],
              "additionalProperties": False}  # fmt: skip
    shape = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    guided = ask(real, "Give me JSON.", response_format=shape, max_tokens=80).choices[0]
    assert guided.finish_reason == "length" or set(json.loads(guided.message.content)) == {"a"}
