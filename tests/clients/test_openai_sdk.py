"""The official openai client on a real model: every endpoint, now and later, whole, streamed and parsed.

What each endpoint answers in detail is in tests/api. The model is too small to choose, so that choices are forced.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from enum import StrEnum
from typing import Any

import openai
import pytest
from pydantic import BaseModel, Field

from tests.serving import MODEL, Served, serving

QUESTION = "What is the capital of France?"
ASKED: Any = {
    "model": MODEL,
    "messages": [{"role": "user", "content": QUESTION}],
    "temperature": 0,
    "max_tokens": 32,
}
RESPONSE: Any = {"model": MODEL, "input": QUESTION, "temperature": 0, "max_output_tokens": 32}
TEXT: Any = {"model": MODEL, "prompt": "The capital of France is", "temperature": 0, "max_tokens": 8}
LONG: Any = {"model": MODEL, "prompt": "la la", "max_tokens": 8000}


class Mood(StrEnum):
    GOOD = "good"
    BAD = "bad"


class Review(BaseModel):
    mood: Mood
    sure: bool


class GetWeather(BaseModel):
    """The weather of a city."""

    city: str = Field(max_length=12)


REVIEW: Any = [{"role": "user", "content": "Review: I love it. Answer as JSON."}]
WEATHER: Any = [{"role": "user", "content": "How is the weather in Oslo?"}]


@pytest.fixture
async def later(served: Served) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def slow() -> Iterator[Served]:
    """20 ms a step."""
    with serving(MODEL, "--backend", "echo", "--engine-option", "delay=0.02") as server:
        server.until_ready()
        yield server


class TestChat:
    async def test_whole_and_streamed(self, client: openai.OpenAI, later: openai.AsyncOpenAI) -> None:
        whole = client.chat.completions.create(**ASKED)
        said = whole.choices[0].message.content
        assert said
        assert "Paris" in said
        chunks = client.chat.completions.create(**ASKED, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == said
        assert (await later.chat.completions.create(**ASKED)).choices[0].message.content == said
        stream = await later.chat.completions.create(**ASKED, stream=True)
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == said

    async def test_the_streaming_helpers(self, client: openai.OpenAI, later: openai.AsyncOpenAI) -> None:
        options: Any = {**ASKED, "stream_options": {"include_usage": True}}
        with client.chat.completions.stream(**options) as stream:
            kinds = {event.type for event in stream}
            final = stream.get_final_completion()
        assert {"chunk", "content.delta", "content.done"} <= kinds
        whole = client.chat.completions.create(**ASKED)
        assert final.choices[0].message.content == whole.choices[0].message.content
        assert final.usage is not None
        assert whole.usage is not None
        assert final.usage.completion_tokens == whole.usage.completion_tokens
        async with later.chat.completions.stream(**options) as stream_later:
            told = await stream_later.get_final_completion()
        assert told.choices[0].message.content == whole.choices[0].message.content

    async def test_parse(self, client: openai.OpenAI, later: openai.AsyncOpenAI) -> None:
        options: Any = {**ASKED, "messages": REVIEW, "response_format": Review}
        parsed = client.chat.completions.parse(**options).choices[0].message.parsed
        assert isinstance(parsed, Review)
        assert (await later.chat.completions.parse(**options)).choices[0].message.parsed == parsed
        with client.chat.completions.stream(**options) as stream:
            assert stream.get_final_completion().choices[0].message.parsed == parsed

    def test_an_answer_that_a_limit_cut_off_is_not_parsed(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.LengthFinishReasonError):
            client.chat.completions.parse(**{**ASKED, "max_tokens": 2}, response_format=Review)

    async def test_a_tool_loop(self, client: openai.OpenAI, later: openai.AsyncOpenAI) -> None:
        tools: Any = [openai.pydantic_function_tool(GetWeather)]
        options: Any = {**ASKED, "tools": tools}
        choice: Any = {"type": "function", "function": {"name": "GetWeather"}}
        first = client.chat.completions.parse(**{**options, "messages": WEATHER}, tool_choice=choice).choices[
            0
        ]
        assert first.finish_reason == "tool_calls"
        assert first.message.tool_calls
        call = first.message.tool_calls[0]
        assert isinstance(call.function.parsed_arguments, GetWeather)
        result = {"role": "tool", "tool_call_id": call.id, "content": "It rains."}
        turns: Any = [*WEATHER, first.message, result]
        second = client.chat.completions.parse(**{**options, "messages": turns}, tool_choice="none")
        told = second.choices[0].message
        assert told.content
        assert not told.tool_calls
        again = await later.chat.completions.create(**{**options, "messages": turns}, tool_choice="none")
        assert again.choices[0].message.content == told.content


class TestText:
    async def test_whole_and_streamed(self, client: openai.OpenAI, later: openai.AsyncOpenAI) -> None:
        said = client.completions.create(**TEXT).choices[0].text
        assert "Paris" in said
        assert (
            "".join(chunk.choices[0].text for chunk in client.completions.create(**TEXT, stream=True)) == said
        )
        assert (await later.completions.create(**TEXT)).choices[0].text == said
        stream = await later.completions.create(**TEXT, stream=True)
        assert "".join([chunk.choices[0].text async for chunk in stream]) == said


class TestResponses:
    async def test_whole_streamed_and_stored(self, client: openai.OpenAI, later: openai.AsyncOpenAI) -> None:
        whole = client.responses.create(**RESPONSE)
        assert "Paris" in whole.output_text
        last = list(client.responses.create(**RESPONSE, stream=True))[-1]
        assert last.type in ("response.completed", "response.incomplete")
        async with later.responses.stream(**RESPONSE) as stream:
            final = await stream.get_final_response()
        assert final.output_text == last.response.output_text == whole.output_text
        stored = await later.responses.retrieve(whole.id)
        assert stored.to_dict() == whole.to_dict()
        assert [item.type async for item in later.responses.input_items.list(whole.id)] == ["message"]
        count = await later.responses.input_tokens.count(model=MODEL, input=QUESTION)
        assert whole.usage is not None
        assert count.input_tokens == whole.usage.input_tokens
        await later.responses.delete(whole.id)
        with pytest.raises(openai.NotFoundError):
            await later.responses.retrieve(whole.id)

    async def test_parse(self, client: openai.OpenAI, later: openai.AsyncOpenAI) -> None:
        options: Any = {**RESPONSE, "input": REVIEW, "text_format": Review}
        parsed = client.responses.parse(**options).output_parsed
        assert isinstance(parsed, Review)
        assert (await later.responses.parse(**options)).output_parsed == parsed
        with client.responses.stream(**options) as stream:
            assert stream.get_final_response().output_parsed == parsed


class TestBatches:
    async def test_from_a_file_to_a_file(self, later: openai.AsyncOpenAI) -> None:
        line = {"custom_id": "one", "method": "POST", "url": "/v1/chat/completions", "body": ASKED}
        file = await later.files.create(file=("asked.jsonl", json.dumps(line).encode()), purpose="batch")
        batch = await later.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        deadline = time.monotonic() + 60
        while batch.status not in ("completed", "failed"):
            assert time.monotonic() < deadline, batch
            await asyncio.sleep(0.05)
            batch = await later.batches.retrieve(batch.id)
        assert batch.output_file_id, batch
        assert batch.id in [found.id async for found in later.batches.list()]
        assert file.id in [found.id async for found in later.files.list(purpose="batch")]
        answer = json.loads((await later.files.content(batch.output_file_id)).text)
        live = await later.chat.completions.create(**ASKED)
        said = answer["response"]["body"]["choices"][0]["message"]["content"]
        assert (answer["custom_id"], said) == ("one", live.choices[0].message.content)
        assert (await later.files.delete(file.id)).deleted
        with pytest.raises(openai.NotFoundError):
            await later.files.retrieve(file.id)


class TestModels:
    async def test_list_and_retrieve(self, client: openai.OpenAI, later: openai.AsyncOpenAI) -> None:
        (model,) = client.models.list()
        assert model.object == "model"
        assert [found async for found in later.models.list()] == [model]
        assert client.models.retrieve(model.id) == model
        assert (await later.models.retrieve(MODEL)).id == MODEL
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("nobody/nothing")


class TestErrors:
    @pytest.mark.parametrize("stream", [False, True])
    def test_an_unknown_model(self, client: openai.OpenAI, stream: bool) -> None:
        with pytest.raises(openai.NotFoundError) as chat:
            client.chat.completions.create(**{**ASKED, "model": "nobody"}, stream=stream)
        with pytest.raises(openai.NotFoundError) as response:
            client.responses.create(**{**RESPONSE, "model": "nobody"}, stream=stream)
        assert chat.value.code == response.value.code == "model_not_found"

    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_bad_parameter(self, later: openai.AsyncOpenAI, stream: bool) -> None:
        with pytest.raises(openai.BadRequestError) as chat:
            await later.chat.completions.create(**{**ASKED, "temperature": 3}, stream=stream)
        with pytest.raises(openai.BadRequestError) as text:
            await later.completions.create(**TEXT, extra_body={"best": 1}, stream=stream)
        with pytest.raises(openai.BadRequestError) as response:
            await later.responses.create(**{**RESPONSE, "max_output_tokens": 10**6}, stream=stream)
        errors = (chat.value, text.value, response.value)
        assert [error.param for error in errors] == ["temperature", "best", "max_output_tokens"]
        assert {error.type for error in errors} == {"invalid_request_error"}
        assert response.value.code == "context_length_exceeded"

    def test_every_answer_has_a_request_id(self, client: openai.OpenAI) -> None:
        raw = client.chat.completions.with_raw_response.create(**ASKED)
        assert raw.request_id
        assert raw.parse()._request_id == raw.request_id
        with pytest.raises(openai.NotFoundError) as caught:
            client.models.retrieve("nobody")
        assert caught.value.request_id
        assert caught.value.request_id != raw.request_id

    def test_what_is_not_served(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.NotFoundError):
            client.images.generate(model=MODEL, prompt="A cat.")


class TestPatience:
    """Of a server that takes 160 s for an answer."""

    @pytest.fixture(autouse=True)
    def idle(self, slow: Served) -> Iterator[None]:
        """Whatever the test gives up has left the engine soon after."""
        yield
        deadline = time.monotonic() + 10
        while slow.metric("openllm_sequences_running") + slow.metric("openllm_sequences_waiting"):
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def test_a_timeout(self, slow: Served) -> None:
        with pytest.raises(openai.APITimeoutError):
            slow.client.with_options(timeout=0.5).completions.create(**LONG)

    def test_a_stream_that_is_left(self, slow: Served) -> None:
        with slow.client.completions.create(**LONG, stream=True) as stream:
            assert next(iter(stream)).choices[0].text

    async def test_a_task_that_is_cancelled(self, slow: Served) -> None:
        async with openai.AsyncOpenAI(base_url=f"{slow.url}/v1", api_key="none", max_retries=0) as client:
            task = asyncio.create_task(client.completions.create(**LONG))
            while not slow.metric("openllm_sequences_running"):
                await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    async def test_a_background_response_is_cancelled(self, slow: Served) -> None:
        async with openai.AsyncOpenAI(base_url=f"{slow.url}/v1", api_key="none", max_retries=0) as client:
            running = await client.responses.create(
                model=MODEL, input="la", instructions="la " * 3000, background=True
            )
            assert running.status == "queued"
            assert (await client.responses.cancel(running.id)).status == "cancelled"

    def test_a_full_queue_is_tried_again(self) -> None:
        """As often as the client is told to, and no sooner than Retry-After says."""
        one_at_a_time = (
            "--backend",
            "echo",
            "--engine-option",
            "delay=0.02",
            "--concurrency",
            "1",
            "--queue",
            "8",
        )
        with serving(MODEL, *one_at_a_time) as server:
            server.until_ready()
            client = server.client.with_options(max_retries=1)
            with client.completions.create(**LONG, n=8, stream=True) as first:
                next(iter(first))
                begun = time.monotonic()
                with pytest.raises(openai.RateLimitError) as caught:
                    client.completions.create(**LONG, n=8)
        assert time.monotonic() - begun >= 1
        assert caught.value.response.headers["retry-after"] == "1"
        assert caught.value.request.headers["x-stainless-retry-count"] == "1"
