"""Answers, whole and streamed, through the official client. The echo engine says the prompt again."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import openai
import pytest

from tests.serving import MODEL

PROMPT = "One two three. 😀 déjà vu!"


def complete(client: openai.OpenAI, **options: Any) -> str:
    answer = client.completions.create(model=MODEL, prompt=PROMPT, **options)
    return str(answer.choices[0].text)


def test_a_completion_has_the_form_of_openais(client: openai.OpenAI) -> None:
    before = int(time.time())
    answer = client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=4)
    assert answer.object == "text_completion"
    assert answer.id.startswith("cmpl-")
    assert before <= answer.created <= time.time()
    assert answer.model == MODEL
    assert answer.choices[0].finish_reason == "length"
    assert PROMPT.startswith(answer.choices[0].text)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 4
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 4


def test_a_chat_completion_has_the_form_of_openais(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Hello"}], max_completion_tokens=3
    )
    assert answer.object == "chat.completion"
    message = answer.choices[0].message
    assert (message.role, answer.choices[0].finish_reason) == ("assistant", "length")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 20  # the template's system prompt is in it


def test_content_as_parts_is_the_same_as_a_text(client: openai.OpenAI) -> None:
    def prompt_tokens(content: Any) -> int:
        answer = client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": content}], max_tokens=1
        )
        assert answer.usage is not None
        return answer.usage.prompt_tokens

    assert prompt_tokens([{"type": "text", "text": "Hello there"}]) == prompt_tokens("Hello there")


@pytest.mark.parametrize("stop", [None, "thr", ["vu", "😀"], "e. 😀", "absent"])
@pytest.mark.parametrize("max_tokens", [1, 7, 40])
def test_a_stream_says_what_a_whole_answer_says(
    client: openai.OpenAI, stop: str | list[str] | None, max_tokens: int
) -> None:
    whole = client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=max_tokens, stop=stop)
    stream = client.completions.create(
        model=MODEL, prompt=PROMPT, max_tokens=max_tokens, stop=stop, stream=True
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == whole.choices[0].finish_reason
    assert all(chunk.choices[0].finish_reason is None for chunk in chunks[:-1])


def test_a_stop_string_is_cut_off_and_named_as_the_reason(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=100, stop=" three")
    assert answer.choices[0].text == "One two"
    assert answer.choices[0].finish_reason == "stop"


def test_a_chat_stream_opens_with_the_role_and_ends_with_the_usage(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Hello"}],
        max_tokens=4,
        n=2,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 8
    for index in (0, 1):
        mine = [chunk.choices[0] for chunk in chunks[:-1] if chunk.choices[0].index == index]
        assert mine[0].delta.role == "assistant"
        assert all(choice.delta.role is None for choice in mine[1:])
        assert mine[-1].finish_reason == "length"
    assert len({chunk.id for chunk in chunks}) == 1


def test_every_choice_has_its_own_text(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt=["aaa bbb", "ccc ddd"], n=2, max_tokens=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    first, second, third, fourth = (choice.text for choice in answer.choices)
    assert first == second != third == fourth
    assert "aaa bbb".startswith(first[:3])


def test_token_ids_are_a_prompt(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt=[[28120, 905], [28120]], max_tokens=2)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 3


def test_stream_lines_are_server_sent_events(http: httpx.Client) -> None:
    body = {"model": MODEL, "prompt": PROMPT, "max_tokens": 3, "stream": True}
    with http.stream("POST", "/v1/completions", json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        text = answer.read().decode()
    events = text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    for event in events[:-2]:
        assert json.loads(event.removeprefix("data: "))["object"] == "text_completion"


async def test_many_at_once_do_not_mix(served_url: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{served_url}/v1", api_key="none", max_retries=0) as client:
        import asyncio

        async def ask(number: int) -> str:
            answer = await client.completions.create(model=MODEL, prompt=f"{number} " * 5, max_tokens=30)
            return answer.choices[0].text

        answers = await asyncio.gather(*(ask(number) for number in range(100, 164)))
    for number, text in zip(range(100, 164), answers, strict=True):
        assert str(number) in text
        assert not any(str(other) in text for other in range(100, 164) if other != number)


@pytest.fixture
def served_url(http: httpx.Client) -> str:
    return str(http.base_url)


def test_more_answers_than_can_ever_be_held_are_no_matter_of_later(http: httpx.Client) -> None:
    body = {"model": MODEL, "prompt": ["la"] * 2048, "n": 128, "max_tokens": 1}
    answer = http.post("/v1/completions", json=body)
    assert answer.status_code == 400, answer.text
    assert "--queue" in answer.json()["error"]["message"]
