"""What cannot be served is refused with OpenAI's error form, the right status, and the parameter's name."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest

from tests.serving import MODEL

CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
TEXT: dict[str, Any] = {"model": MODEL, "prompt": "Hi", "max_tokens": 2}


def refuse(http: httpx.Client, path: str, body: Any) -> dict[str, Any]:
    answer = http.post(path, json=body)
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return {**error, "status": answer.status_code}


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"temperature": 3}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 0}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": [1]}, "stop.0"),
        ({"stop": ""}, "stop"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "Hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5"),
        ({"logit_bias": {"five": 1}}, "logit_bias.five"),
        ({"logprobs": True}, "logprobs"),
        ({"tools": [{"type": "function"}]}, "tools.0.function"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"stream_options": {"include": True}}, "stream_options.include"),
        ({"best": 1}, "best"),
    ],
)
def test_a_bad_parameter_is_named(http: httpx.Client, change: dict[str, Any], param: str) -> None:
    error = refuse(http, "/v1/chat/completions", {**CHAT, **change})
    assert (error["status"], error["param"]) == (400, param), error
    assert param.split(".")[0].split("[")[0] in error["message"]


def test_an_unknown_parameter_suggests_the_nearest(http: httpx.Client) -> None:
    error = refuse(http, "/v1/chat/completions", {**CHAT, "temprature": 0})
    assert error["code"] == "unsupported_parameter"
    assert "'temperature'" in error["message"]


def test_an_unknown_model_is_a_404_that_names_the_right_one(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.completions.create(model="gpt-7", prompt="Hi")
    assert caught.value.code == "model_not_found"
    assert "smollm2" in caught.value.message


def test_a_prompt_longer_than_the_context_is_refused(http: httpx.Client) -> None:
    error = refuse(http, "/v1/completions", {**TEXT, "prompt": "word " * 9000})
    assert (error["status"], error["code"]) == (400, "context_length_exceeded")
    assert "8192" in error["message"]


def test_an_answer_longer_than_the_context_is_refused(http: httpx.Client) -> None:
    error = refuse(http, "/v1/completions", {**TEXT, "max_tokens": 9000})
    assert (error["status"], error["code"], error["param"]) == (400, "context_length_exceeded", "max_tokens")


def test_a_streamed_request_that_is_refused_has_its_status(http: httpx.Client) -> None:
    error = refuse(http, "/v1/completions", {**TEXT, "prompt": "word " * 9000, "stream": True})
    assert error["status"] == 400


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"[]", b"", b'{"model": "x"'])
def test_a_body_that_is_no_json_object_is_refused(http: httpx.Client, body: bytes) -> None:
    answer = http.post("/v1/completions", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/messages"])
@pytest.mark.parametrize("text", [b'"\\ud800"', b'"\xff"', b"NaN", b"1e999", b"[" * 100_000])
def test_a_body_that_is_almost_json_is_refused(http: httpx.Client, path: str, text: bytes) -> None:
    body = b'{"model": "smollm2", "max_tokens": 3, "messages": [], "input": %s}' % text
    answer = http.post(path, content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, "JSON" in answer.json()["error"]["message"]) == (400, True)


def test_an_unknown_path_and_a_wrong_method_have_openais_form(http: httpx.Client) -> None:
    assert refuse(http, "/v1/nothing", {})["status"] == 404
    answer = http.get("/v1/completions")
    assert (answer.status_code, "error" in answer.json()) == (405, True)


@pytest.mark.parametrize("prompt", ["", [], [[]], [10**9]])
def test_a_prompt_without_tokens_or_with_unknown_ones_is_refused(http: httpx.Client, prompt: Any) -> None:
    assert refuse(http, "/v1/completions", {**TEXT, "prompt": prompt})["status"] == 400


def test_values_that_change_nothing_are_taken(http: httpx.Client) -> None:
    habits = {
        "logprobs": False, "tools": [], "tool_choice": "none", "response_format": {"type": "text"}, "stop": None,
        "user": "u", "logit_bias": {}, "metadata": None, "n": None, "temperature": None, "stream_options": None,
    }  # fmt: skip
    answer = http.post("/v1/chat/completions", json={**CHAT, **habits})
    assert answer.status_code == 200, answer.text
