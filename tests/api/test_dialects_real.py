"""Responses and Messages on the OpenVINO engine, through both official clients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from tests.serving import MODEL, Served, serving

QUESTION = "What is the capital of France?"
GREEDY: dict[str, Any] = {"temperature": 0}


@pytest.fixture(scope="module")
def real() -> Iterator[Served]:
    with serving(MODEL, "--backend", "openvino") as server:
        server.until_ready(240)
        yield server


@pytest.fixture(scope="module")
def claude(real: Served) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=real.url, api_key="none", max_retries=0) as client:
        yield client


def test_a_response_and_its_stream_know_the_capital(real: Served) -> None:
    whole = real.client.responses.create(model=MODEL, input=QUESTION, temperature=0, max_output_tokens=24)
    with real.client.responses.stream(
        model=MODEL, input=QUESTION, temperature=0, max_output_tokens=24
    ) as stream:
        final = stream.get_final_response()
    assert "Paris" in whole.output_text
    assert final.output_text == whole.output_text
    assert final.usage is not None
    assert whole.usage is not None
    assert final.usage.output_tokens == whole.usage.output_tokens


def test_a_conversation_is_remembered(real: Served) -> None:
    first = real.client.responses.create(model=MODEL, input=QUESTION, temperature=0, max_output_tokens=24)
    second = real.client.responses.create(
        model=MODEL,
        input="And of Spain?",
        previous_response_id=first.id,
        temperature=0,
        max_output_tokens=24,
    )
    assert "Madrid" in second.output_text


async def test_a_message_and_its_stream_know_the_capital(real: Served, claude: anthropic.Anthropic) -> None:
    turns: Any = [{"role": "user", "content": QUESTION}]
    whole = claude.messages.create(model=MODEL, max_tokens=24, messages=turns, extra_body=GREEDY)
    with claude.messages.stream(model=MODEL, max_tokens=24, messages=turns, extra_body=GREEDY) as stream:
        final = stream.get_final_message()
    async with anthropic.AsyncAnthropic(base_url=real.url, api_key="none", max_retries=0) as client:
        later = await client.messages.create(model=MODEL, max_tokens=24, messages=turns, extra_body=GREEDY)
    assert whole.content[0].type == "text"
    assert "Paris" in whole.content[0].text
    assert final.to_dict()["content"] == whole.to_dict()["content"] == later.to_dict()["content"]
    count = claude.messages.count_tokens(model=MODEL, messages=turns)
    # What the prefix cache had is counted apart.
    assert count.input_tokens == whole.usage.input_tokens + (whole.usage.cache_read_input_tokens or 0)


def test_the_dialects_say_what_chat_says(real: Served, claude: anthropic.Anthropic) -> None:
    turns: Any = [{"role": "user", "content": "List three colours."}]
    chat = real.client.chat.completions.create(model=MODEL, messages=turns, max_tokens=30, **GREEDY)
    response = real.client.responses.create(model=MODEL, input=turns, max_output_tokens=30, **GREEDY)
    message = claude.messages.create(model=MODEL, messages=turns, max_tokens=30, extra_body=GREEDY)
    assert message.content[0].type == "text"
    assert response.output_text == chat.choices[0].message.content == message.content[0].text


def test_a_background_response_is_answered(real: Served) -> None:
    client: openai.OpenAI = real.client
    response = client.responses.create(
        model=MODEL, input=QUESTION, background=True, stream=True, max_output_tokens=24, temperature=0
    )
    last = list(response)[-1]
    assert last.type == "response.completed"
    assert "Paris" in client.responses.retrieve(last.response.id).output_text
