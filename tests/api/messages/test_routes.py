"""``/v1/messages`` through the official client, on the echo engine.

It says the prompt again up to the first token that ends a turn: the system prompt.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.api.sse import events
from tests.serving import MODEL, Served

BODY: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": 400,
    "system": "Hello there",
    "messages": [{"role": "user", "content": "Hi"}],
}


@pytest.fixture(scope="module")
def claude(served: Served) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=served.url, api_key="none", max_retries=0) as client:
        yield client


def test_a_message_has_the_form_of_anthropics(claude: anthropic.Anthropic) -> None:
    message = claude.messages.create(**{**BODY, "system": [{"type": "text", "text": "Be brief."}]})
    assert (message.type, message.role, message.model) == ("message", "assistant", MODEL)
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    assert message.content[0].type == "text"
    assert "Be brief." in message.content[0].text
    assert message.usage.output_tokens > 5


def test_a_stream_is_the_whole_message(claude: anthropic.Anthropic) -> None:
    whole = claude.messages.create(**BODY)
    with claude.messages.stream(**BODY) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == "".join(block.text for block in whole.content if block.type == "text")
    assert final.to_dict() == {**whole.to_dict(), "id": final.id}


async def test_the_async_client(served: Served, claude: anthropic.Anthropic) -> None:
    async with anthropic.AsyncAnthropic(base_url=served.url, api_key="none", max_retries=0) as client:
        whole = await client.messages.create(**BODY)
        async with client.messages.stream(**BODY) as stream:
            final = await stream.get_final_message()
        count = await client.messages.count_tokens(
            model=MODEL, messages=BODY["messages"], system="Hello there"
        )
    assert final.to_dict() == {**whole.to_dict(), "id": final.id}
    assert count.input_tokens == whole.usage.input_tokens


def test_a_stop_sequence_is_named(claude: anthropic.Anthropic) -> None:
    for stream in (False, True):
        options: dict[str, Any] = {**BODY, "stop_sequences": ["absent", "o there"]}
        if stream:
            with claude.messages.stream(**options) as told:
                message = told.get_final_message()
        else:
            message = claude.messages.create(**options)
        assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "o there")
        assert message.content[0].type == "text"
        assert message.content[0].text.endswith("Hell")


def test_a_limit_is_named(claude: anthropic.Anthropic) -> None:
    message = claude.messages.create(**{**BODY, "max_tokens": 3})
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 3)


def test_an_answer_may_be_as_long_as_the_context_leaves(claude: anthropic.Anthropic) -> None:
    with claude.messages.stream(**{**BODY, "max_tokens": 64_000, "system": "word " * 5000}) as stream:
        message = stream.get_final_message()
    assert message.stop_reason == "model_context_window_exceeded"
    assert message.usage.input_tokens + message.usage.output_tokens == 8192


def test_a_prompt_longer_than_the_context_is_refused(claude: anthropic.Anthropic) -> None:
    turn: Any = {"role": "user", "content": "word " * 9000}
    with pytest.raises(anthropic.BadRequestError, match="8192"):
        claude.messages.create(model=MODEL, max_tokens=5, messages=[turn])


def test_the_prompt_is_that_of_chat(claude: anthropic.Anthropic, client: openai.OpenAI) -> None:
    chat = client.chat.completions.create(model=MODEL, messages=BODY["messages"], max_tokens=1)
    assert chat.usage is not None
    count = claude.messages.count_tokens(model=MODEL, messages=BODY["messages"])
    assert count.input_tokens == chat.usage.prompt_tokens


def test_stream_lines_are_server_sent_events(http: httpx.Client) -> None:
    answer = http.post(
        "/v1/messages", json={**BODY, "stream": True}, headers={"anthropic-version": "2023-06-01"}
    )
    assert answer.headers["content-type"].startswith("text/event-stream")
    told = events(answer.content)
    assert [told[0]["type"], told[-1]["type"]] == ["message_start", "message_stop"]


def refuse(http: httpx.Client, body: Any, path: str = "/v1/messages") -> tuple[int, str, str]:
    answer = http.post(path, json=body)
    told = answer.json()
    assert set(told) == {"type", "error"}
    assert told["type"] == "error"
    return answer.status_code, told["error"]["type"], told["error"]["message"]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "Hi"}]}, "messages.0.role"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "x"}}]}
                ]
            },
            "image",
        ),
        ({"temperature": 2}, "temperature"),
        ({"tools": [{"type": "web_search_20250305", "name": "w"}]}, "web_search_20250305"),
        ({"tools": [{"name": "f"}]}, "tools.0.input_schema"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": 3000}}, "thinking.budget_tokens"),
        ({"container": "c"}, "container"),
        ({"max_token": 3}, "'max_tokens'"),
        ({"stop_sequences": [""]}, "stop_sequences.0"),
    ],
)
def test_a_bad_parameter_is_named(http: httpx.Client, change: dict[str, Any], word: str) -> None:
    status, kind, message = refuse(http, {**BODY, **change})
    assert (status, kind) == (400, "invalid_request_error")
    assert word in message


def test_errors_have_anthropics_form_whatever_is_wrong(http: httpx.Client) -> None:
    assert refuse(http, {**BODY, "model": "gpt-7"})[:2] == (404, "not_found_error")
    unknown = {"model": "gpt-7", "messages": BODY["messages"]}
    assert refuse(http, unknown, "/v1/messages/count_tokens")[:2] == (404, "not_found_error")
    assert refuse(http, {}, "/v1/messages/nothing")[:2] == (404, "not_found_error")
    answer = http.get("/v1/messages")
    assert (answer.status_code, answer.json()["error"]["type"]) == (405, "invalid_request_error")
    answer = http.post("/v1/messages", content=b"{", headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (400, "error")
    assert "error" in http.post("/v1/chat/completions", json={}).json()
