"""Logprobs through HTTP: vLLM's, against transformers' log-softmax of the same weights in float32."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from openllm.chat.token_texts import TokenTexts
from openllm.chat.tokenizer import ChatTokenizer, load_tokenizer
from openllm.weights.store import default_root
from tests.engines.child import Child
from tests.engines.reference import Reference
from tests.serving import MODEL, Served, serving

TOLERANCE = 2e-3
QUESTION: Any = [{"role": "user", "content": "What is the capital of France? Use an emoji."}]
TEXT = "The capital of France is Paris, and the capital of Italy is Rome. 😀"


@pytest.fixture(scope="module")
def served(vllm_float32: Served) -> Served:
    return vllm_float32


@pytest.fixture(scope="module")
def reference(smollm2_gguf: Path) -> Iterator[Child]:
    if find_spec("accelerate") is None:
        pytest.skip("transformers cannot read GGUF files without accelerate")
    child = Child(Reference, smollm2_gguf, default_root() / "converted")
    yield child
    child.close()


@pytest.fixture(scope="module")
def tokenizer(smollm2_gguf: Path) -> ChatTokenizer:
    return load_tokenizer(smollm2_gguf)


def near(value: float) -> Any:
    return pytest.approx(value, abs=TOLERANCE)


def test_chat_has_the_values_of_the_model(
    client: openai.OpenAI, reference: Child, tokenizer: ChatTokenizer
) -> None:
    options: Any = {"max_tokens": 24, "temperature": 0, "logprobs": True, "top_logprobs": 20}
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, **options)
    chunks = list(client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True, **options))
    text = answer.choices[0].message.content or ""
    assert answer.choices[0].logprobs is not None
    content = answer.choices[0].logprobs.content or []
    assert b"".join(bytes(token.bytes or ()) for token in content) == text.encode()
    # The prompt in ids, as /v1/completions says them: what the template makes of the question.
    prompt = tokenizer.encode(_rendered(), add_special_tokens=False)
    assert answer.usage is not None
    assert len(prompt) == answer.usage.prompt_tokens
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert len(ids) == len(content)
    expected = reference.ask(Reference.logprobs, prompt + ids)[len(prompt) - 1 :]
    for index, told, row in zip(ids, content, expected, strict=True):
        assert told.logprob == near(row[index])
        values = [other.logprob for other in told.top_logprobs]
        assert values == near(sorted(row, reverse=True)[:20])  # type: ignore[arg-type]
        assert told.token == told.top_logprobs[0].token
    streamed = [
        token
        for chunk in chunks
        if chunk.choices[0].logprobs
        for token in chunk.choices[0].logprobs.content or []
    ]
    assert [token.token for token in streamed] == [token.token for token in content]
    assert [token.logprob for token in streamed] == near([token.logprob for token in content])  # type: ignore[arg-type]


def _rendered() -> str:
    """SmolLM2's template, written out."""
    system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    turns = (("system", system), ("user", QUESTION[0]["content"]))
    return (
        "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns) + "<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("stream", [False, True])
def test_an_echoed_prompt_has_the_values_of_the_model(
    client: openai.OpenAI, reference: Child, tokenizer: ChatTokenizer, stream: bool
) -> None:
    ids = tokenizer.encode(TEXT, add_special_tokens=False)
    texts = TokenTexts(tokenizer.backend)
    by_text = {texts.token(index, 0.0).token: index for index in range(tokenizer.vocabulary)}
    # As lm-eval asks for likelihoods.
    made: Any = client.completions.create(
        model=MODEL, prompt=[ids, ids[:7]], max_tokens=1, logprobs=5, echo=True, temperature=0, seed=1234,
        stream=stream,
    )  # fmt: skip
    choices = [choice for part in (made if stream else [made]) for choice in part.choices]
    for place, prompt in enumerate((ids, ids[:7])):
        mine = [choice for choice in choices if choice.index == place]
        told = [choice.logprobs for choice in mine if choice.logprobs is not None]
        tokens, logprobs, tops, offsets = (
            [entry for each in told for entry in getattr(each, field)]
            for field in ("tokens", "token_logprobs", "top_logprobs", "text_offset")
        )
        text = "".join(choice.text for choice in mine)
        assert text.startswith(tokenizer.decode(prompt))
        assert len(tokens) == len(logprobs) == len(tops) == len(offsets) == len(prompt) + 1
        assert (logprobs[0], tops[0], offsets[0]) == (None, None, 0)
        answer = [by_text[tokens[-1]]]
        expected = reference.ask(Reference.logprobs, prompt + answer)
        for position, (row, index) in enumerate(zip(expected, (prompt + answer)[1:], strict=True), 1):
            assert logprobs[position] == near(row[index])
            assert max(tops[position].values()) == near(max(row))
            assert tops[position][tokens[position]] == logprobs[position]
            greedy = row[index] == max(row)
            assert (logprobs[position] == max(tops[position].values())) == greedy
            if not tokens[position].startswith("bytes:"):
                assert text.startswith(tokens[position], offsets[position])


def test_a_prompt_alone(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt=TEXT, max_tokens=0, logprobs=0, echo=True)
    assert answer.choices[0].text == TEXT
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 0
    told = answer.choices[0].logprobs
    assert told is not None
    assert len(told.tokens or []) == answer.usage.prompt_tokens
    pairs = list(zip(told.top_logprobs or [], told.tokens or [], strict=True))
    assert all(list(top) == [token] for top, token in pairs[1:])


def test_the_best_are_chosen_by_mean_logprob(client: openai.OpenAI) -> None:
    options: Any = {"max_tokens": 12, "temperature": 1.5, "seed": 5, "logprobs": 0, "ignore_eos": True}
    extra = {"ignore_eos": options.pop("ignore_eos")}
    every = client.completions.create(model=MODEL, prompt=TEXT, n=5, extra_body=extra, **options)
    best = client.completions.create(model=MODEL, prompt=TEXT, n=2, best_of=5, extra_body=extra, **options)

    def mean(choice: Any) -> float:
        values = choice.logprobs.token_logprobs
        return float(sum(values) / len(values))

    ranked = sorted(every.choices, key=mean, reverse=True)
    assert [choice.text for choice in best.choices] == [choice.text for choice in ranked[:2]]
    assert [choice.index for choice in best.choices] == [0, 1]
    assert best.usage is not None
    assert best.usage.completion_tokens == 60


@pytest.mark.parametrize(
    ("path", "asked", "param"),
    [
        ("chat/completions", {"messages": QUESTION, "logprobs": True}, "logprobs"),
        ("completions", {"prompt": TEXT, "logprobs": 1, "echo": True}, "logprobs"),
        ("completions", {"prompt": TEXT, "best_of": 2}, "best_of"),
        ("responses", {"input": TEXT, "include": ["message.output_text.logprobs"]}, "include"),
    ],
)
def test_openvino_refuses(openvino: httpx.Client, path: str, asked: dict[str, Any], param: str) -> None:
    answer = openvino.post(f"/v1/{path}", json={"model": MODEL, **asked})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param), error
    assert param in error["message"]
    assert "--backend vllm" in error["message"]


def test_openvino_echoes(openvino: httpx.Client) -> None:
    body = {"model": MODEL, "prompt": TEXT, "max_tokens": 3, "echo": True, "temperature": 0}
    echoed = openvino.post("/v1/completions", json=body).json()["choices"][0]["text"]
    plain = openvino.post("/v1/completions", json={**body, "echo": False}).json()["choices"][0]["text"]
    assert echoed == TEXT + plain


@pytest.fixture(scope="module")
def openvino() -> Iterator[httpx.Client]:
    with serving(MODEL, "--backend", "openvino") as server:
        server.until_ready()
        with server.http() as http:
            yield http
