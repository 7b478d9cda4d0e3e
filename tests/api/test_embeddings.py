"""Embeddings, scores and tokens through the front door: the official client, the real all-MiniLM-L6-v2."""

from __future__ import annotations

import base64
import concurrent.futures
import json
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from openllm.chat.tokenizer import ChatTokenizer
from tests.api.schemas import Document
from tests.encoders.conftest import minilm, tokenizer
from tests.encoders.folders import random_model, write_folder
from tests.serving import Served, serving

__all__ = ["minilm", "tokenizer"]
MODEL = "all-minilm"
HELLO = [101, 7592, 2088, 102]  # "hello world" and the tokens around it


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(MODEL) as server:
        server.until_ready()
        yield server


@pytest.fixture(scope="module")
def chat(echo: Served) -> Iterator[httpx.Client]:
    """Asks a model that generates text."""
    with echo.http() as made:
        yield made


@pytest.fixture(scope="module")
def reranker(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A small cross-encoder of random weights, in a folder; in float32, as a CPU with AMX computes in bfloat16."""
    folder = write_folder(
        tmp_path_factory.mktemp("rerank") / "tiny-rerank", random_model("bert", scores=True), minilm
    )
    with serving(str(folder), "--dtype", "float32") as server:
        server.until_ready()
        yield server


def embed(http: httpx.Client, wanted: Any, **options: Any) -> list[list[float]]:
    answer = http.post("/v1/embeddings", json={"model": MODEL, "input": wanted, **options})
    assert answer.status_code == 200, answer.text
    return [each["embedding"] for each in answer.json()["data"]]


def refused(http: httpx.Client, path: str, **body: Any) -> dict[str, Any]:
    answer = http.post(path, json={"model": MODEL, **body})
    assert answer.status_code == 400, answer.text
    error: dict[str, Any] = answer.json()["error"]
    return error


def dot(first: list[float], second: list[float]) -> float:
    return sum(a * b for a, b in zip(first, second, strict=True))


class TestEmbeddings:
    def test_text_texts_ids_and_lists_of_ids(self, client: openai.OpenAI) -> None:
        def first(wanted: Any) -> list[float]:
            return client.embeddings.create(model=MODEL, input=wanted).data[0].embedding

        expected = first("hello world")
        assert len(expected) == 384
        for same in (["hello world", "other"], HELLO, [HELLO, [101, 102]]):
            assert first(same) == pytest.approx(expected, abs=1e-5)

    def test_base64_is_the_same_numbers(self, http: httpx.Client) -> None:
        (text,) = http.post(
            "/v1/embeddings", json={"model": MODEL, "input": "hello", "encoding_format": "base64"}
        ).json()["data"]
        (floats,) = embed(http, "hello", encoding_format="float")
        assert array("f", base64.b64decode(text["embedding"])).tolist() == pytest.approx(floats, abs=1e-6)

    def test_order_and_usage_of_as_many_texts_as_one_may_send(
        self, client: openai.OpenAI, tokenizer: ChatTokenizer
    ) -> None:
        texts = [f"text {index}" + " and more" * (index % 9) for index in range(2048)]
        answer = client.embeddings.create(model=MODEL, input=texts)
        assert [each.index for each in answer.data] == list(range(2048))
        for index in (0, 17, 2047):
            alone = client.embeddings.create(model=MODEL, input=texts[index])
            assert dot(alone.data[0].embedding, answer.data[index].embedding) > 0.9999
            assert alone.usage.prompt_tokens == len(tokenizer.encode(texts[index], True))
        assert answer.usage.prompt_tokens == sum(len(tokenizer.encode(text, True)) for text in texts)
        assert answer.usage.total_tokens == answer.usage.prompt_tokens

    def test_answers_have_openais_form(self, http: httpx.Client, shared_folder: Path) -> None:
        theirs = Document(json.loads((shared_folder / "openai" / "openapi.json").read_text()))
        for form in ("float", "base64"):
            body = {"model": MODEL, "input": ["a", "b"], "encoding_format": form}
            answer = http.post("/v1/embeddings", json=body).json()
            wrong = theirs.differences("CreateEmbeddingResponse", answer)
            # OpenAI's schema forgets its own base64.
            assert wrong == ({"$.data[].embedding: type"} if form == "base64" else set())

    def test_meaning(self, http: httpx.Client) -> None:
        query, near, far = embed(http, ["a puppy plays", "a young dog is playing", "interest rates rise"])
        assert dot(query, near) > 0.5 > 0.2 > dot(query, far)

    @pytest.mark.parametrize(
        ("body", "param", "says"),
        [
            ({"input": ""}, "input", "empty"),
            ({"input": ["a", ""]}, "input", "1 is empty"),
            ({"input": []}, "input", "text"),
            ({"input": [[]]}, "input.0", ""),
            ({"input": [30_522]}, "input", "30521"),
            ({"input": [-1]}, "input.0", ""),
            ({"input": ["a", 1]}, "input", "all of a list"),
            ({"input": 3}, "input", "text"),
            ({"input": None}, "input", "text"),
            ({"input": ["a"] * 2049}, "input", "2048"),
            ({"input": "word " * 300}, "input", "302 tokens"),
            ({"input": [5] * 257}, "input", "257 tokens"),
            ({"input": "a", "dimensions": 64}, "dimensions", "384"),
            ({"input": "a", "dimensions": 0}, "dimensions", ""),
            ({"input": "a", "encoding_format": "int8"}, "encoding_format", ""),
            ({"input": "a", "truncate_prompt_tokens": 300}, "truncate_prompt_tokens", "256"),
            ({"input": "a b c", "truncate_prompt_tokens": 2}, "truncate_prompt_tokens", "3 or more"),
            ({"input": "a", "prompt_name": "query"}, "prompt_name", "has none"),
            ({"input": "a", "stream": True}, "stream", "not supported"),
        ],
    )
    def test_what_is_wrong_is_named(
        self, http: httpx.Client, body: dict[str, Any], param: str, says: str
    ) -> None:
        error = refused(http, "/v1/embeddings", **body)
        assert error["param"] == param
        assert says in error["message"]

    def test_the_model_s_own_dimensions_may_be_asked_for(self, http: httpx.Client) -> None:
        assert len(embed(http, "a", dimensions=384)[0]) == 384

    def test_long_texts_are_cut_only_if_asked(self, http: httpx.Client) -> None:
        long = "word " * 300
        for limit, same in ((-1, "word " * 254), (6, "word " * 4)):
            (cut,) = embed(http, long, truncate_prompt_tokens=limit)
            (short,) = embed(http, same)
            assert dot(cut, short) > 0.9999
        (cut,) = embed(http, [*HELLO, 5, 6], truncate_prompt_tokens=4)
        assert dot(cut, embed(http, HELLO)[0]) > 0.9999

    def test_a_chat_is_refused_and_says_what_works(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.BadRequestError, match=r"makes embeddings.*/v1/embeddings"):
            client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hi"}])
        with pytest.raises(openai.BadRequestError, match="makes embeddings"):
            client.completions.create(model=MODEL, prompt="Hi")
        with pytest.raises(openai.NotFoundError):
            client.embeddings.create(model="other", input="Hi")

    def test_embeddings_of_a_chat_model_are_refused(self, chat: httpx.Client) -> None:
        for path, body in (("/v1/embeddings", {"input": "a"}), ("/v1/score", {"text_1": "a", "text_2": "b"})):
            answer = chat.post(path, json={"model": "smollm2", **body})
            assert answer.status_code == 400
            assert "generates text" in answer.json()["error"]["message"]
            assert "openllm start all-minilm" in answer.json()["error"]["message"]

    def test_a_killed_runner_is_replaced_and_the_texts_run_again(
        self, served: Served, client: openai.OpenAI
    ) -> None:
        texts = [f"a text of some length, number {index}" for index in range(2048)]
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            answer = pool.submit(client.embeddings.create, model=MODEL, input=texts)
            while served.metric("openllm_sequences_waiting") < 1:
                assert not answer.done()
            served.runner().kill()
            assert len(answer.result(timeout=120).data) == 2048
        assert served.metric("openllm_runner_restarts_total") == 1


def test_a_client_that_goes_takes_its_texts_along() -> None:
    """On the echo encoder, whose steps take as long as is asked for."""
    options = ("--concurrency", "1", "--engine-option", "delay=0.05")
    with serving(MODEL, "--backend", "echo", *options) as server:
        server.until_ready()
        with server.http() as http:
            body = {"model": MODEL, "input": ["some words"] * 1000}
            with pytest.raises(httpx.ReadTimeout):
                http.post("/v1/embeddings", json=body, timeout=1)
            begun = time.monotonic()
            assert len(embed(http, "quick")[0]) == 16
            assert time.monotonic() - begun < 10  # the thousand would take 50 s
            assert server.metric("openllm_sequences_waiting") == 0


class TestScores:
    def test_an_embedding_model_reranks_by_cosine(self, http: httpx.Client) -> None:
        documents = [
            "Bananas are yellow.",
            {"text": "Paris is the capital of France."},
            "France is in Europe.",
        ]
        query = "What is the capital of France?"
        body = {"model": MODEL, "query": query, "documents": documents}
        answer = http.post("/v1/rerank", json=body).json()
        assert [each["index"] for each in answer["results"]] == [1, 2, 0]
        assert answer["results"][0]["document"] == {"text": "Paris is the capital of France."}
        mine, first = embed(http, [query, "Paris is the capital of France."])
        assert answer["results"][0]["relevance_score"] == pytest.approx(dot(mine, first), abs=1e-4)
        assert answer["usage"]["total_tokens"] > 20
        top = http.post("/v2/rerank", json={**body, "top_n": 1, "return_documents": False}).json()["results"]
        assert top == [{"index": 1, "relevance_score": answer["results"][0]["relevance_score"]}]

    def test_score_pairs_texts(self, http: httpx.Client) -> None:
        def scores(first: Any, second: Any) -> list[float]:
            answer = http.post("/v1/score", json={"model": MODEL, "text_1": first, "text_2": second})
            return [each["score"] for each in answer.json()["data"]]

        one, two = scores("a cat", ["a kitten", "a car"])
        assert one > two
        assert scores(["a cat", "a cat"], ["a kitten", "a car"]) == pytest.approx([one, two], abs=1e-5)
        assert scores("a cat", "a kitten") == pytest.approx([one], abs=1e-5)
        aliases = {"model": MODEL, "queries": "a cat", "documents": ["a kitten"]}
        assert http.post("/v1/score", json=aliases).json()["data"][0]["score"] == pytest.approx(one, abs=1e-5)
        assert refused(http, "/v1/score", text_1=["a", "b"], text_2=["a", "b", "c"])["param"] == "text_1"

    def test_a_cross_encoder_scores_pairs(self, reranker: Served, minilm: Path) -> None:
        import torch
        from transformers import AutoTokenizer

        model, join = random_model("bert", scores=True), AutoTokenizer.from_pretrained(minilm)
        query, documents = "What is it?", ["A cat.", "A very old dog, perhaps.", "It is what it is"]
        with torch.no_grad():
            inputs = join([query] * 3, documents, padding=True, return_tensors="pt")
            wanted = torch.sigmoid(model(**inputs).logits[:, 0]).tolist()
        with reranker.http() as http:
            body = {"model": "tiny-rerank", "query": query, "documents": documents}
            results = http.post("/v1/rerank", json=body).json()["results"]
            found = {each["index"]: each["relevance_score"] for each in results}
            assert [found[index] for index in range(3)] == pytest.approx(wanted, abs=1e-3)
            assert [each["index"] for each in results] == sorted(range(3), key=lambda index: -wanted[index])
            score = {"model": "tiny-rerank", "text_1": query, "text_2": documents}
            data = http.post("/v1/score", json=score).json()["data"]
            assert [each["score"] for each in data] == pytest.approx(wanted, abs=1e-3)
            long = {**body, "documents": ["word " * 100]}
            assert http.post("/v1/rerank", json=long).status_code == 400
            assert http.post("/v1/rerank", json={**long, "truncate_prompt_tokens": -1}).status_code == 200
            answer = http.post("/v1/embeddings", json={"model": "tiny-rerank", "input": "a"})
            assert answer.status_code == 400
            assert "scores pairs of texts" in answer.json()["error"]["message"]

    @pytest.mark.parametrize(
        "body",
        [{"query": "", "documents": ["a"]}, {"query": "a", "documents": []}, {"query": "a", "documents": ["a", ""]},
         {"query": "a", "documents": [{"txt": "a"}]}, {"query": "a", "documents": ["a"], "top_n": 0}, {"query": "a"}],
    )  # fmt: skip
    def test_wrong_bodies(self, http: httpx.Client, body: dict[str, Any]) -> None:
        assert refused(http, "/v1/rerank", **body)["message"]


class TestTokens:
    def test_there_and_back(self, http: httpx.Client) -> None:
        body = {"prompt": "hello world", "return_token_strs": True}
        assert http.post("/tokenize", json=body).json() == {
            "count": 4, "max_model_len": 256, "tokens": HELLO, "token_strs": ["[CLS]", "hello", "world", "[SEP]"],
        }  # fmt: skip
        bare = http.post("/tokenize", json={"prompt": "hello world", "add_special_tokens": False}).json()
        assert bare["tokens"] == HELLO[1:3]
        assert bare["token_strs"] is None
        assert http.post("/detokenize", json={"tokens": HELLO}).json() == {
            "prompt": "[CLS] hello world [SEP]"
        }

    def test_a_chat_model_s_messages(self, chat: httpx.Client) -> None:
        body = {"model": "smollm2", "messages": [{"role": "user", "content": "Hello"}]}
        tokens = chat.post("/tokenize", json=body).json()["tokens"]
        text = chat.post("/detokenize", json={"model": "smollm2", "tokens": tokens}).json()["prompt"]
        assert text.endswith("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n")

    def test_what_goes_with_messages_in_chat(self, chat: httpx.Client) -> None:
        begun = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hel"}]

        def text(**body: Any) -> str:
            answer = chat.post("/tokenize", json={"messages": begun, **body})
            assert answer.status_code == 200, answer.text
            written = chat.post("/detokenize", json={"tokens": answer.json()["tokens"]}).json()["prompt"]
            return str(written)

        assert text().endswith("Hel<|im_end|>\n<|im_start|>assistant\n")
        assert text(add_generation_prompt=False).endswith("Hel<|im_end|>\n")
        assert text(continue_final_message=True).endswith("assistant\nHel")
        tool = {"type": "function", "function": {"name": "weather"}}
        for wrong, param in (
            ({"messages": begun, "tools": [tool]}, "tools"),  # nobody knows how this model calls
            ({"messages": begun, "chat_template_kwargs": {"x": 1}}, "chat_template_kwargs.x"),
            ({"prompt": "a", "tools": [tool]}, "tools"),
            ({"prompt": "a", "continue_final_message": True}, "continue_final_message"),
        ):
            answer = chat.post("/tokenize", json=wrong)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)

    @pytest.mark.parametrize(
        ("path", "body"),
        [("/tokenize", {}), ("/tokenize", {"prompt": "a", "messages": [{"role": "user", "content": "a"}]}),
         ("/detokenize", {"tokens": [30_522]}), ("/detokenize", {"tokens": [-1]}), ("/detokenize", {}),
         ("/tokenize", {"messages": [{"role": "user", "content": "a"}]})],
    )  # fmt: skip
    def test_wrong_bodies(self, http: httpx.Client, path: str, body: dict[str, Any]) -> None:
        assert refused(http, path, **body)["message"]
