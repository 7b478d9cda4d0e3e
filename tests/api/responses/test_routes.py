"""``/v1/responses`` through the official client, on the echo engine.

It says the prompt again up to the first token that ends a turn: the instructions.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import openai
import pytest

from tests.api.sse import events
from tests.serving import MODEL, Served

BODY: dict[str, Any] = {
    "model": MODEL,
    "input": "Hello",
    "instructions": "Be brief.",
    "max_output_tokens": 400,
}
LONG = "word " * 2000


def create(client: openai.OpenAI, **options: Any) -> Any:
    return client.responses.create(**{**BODY, **options})


def test_a_response_has_the_form_of_openais(client: openai.OpenAI) -> None:
    before = int(time.time())
    response = create(client, instructions="Say it again: déjà vu 😀", metadata={"a": "b"})
    assert (response.object, response.status, response.model) == ("response", "completed", MODEL)
    assert response.id.startswith("resp_")
    assert before <= response.created_at <= response.completed_at <= time.time()
    assert "déjà vu 😀" in response.output_text
    assert response.metadata == {"a": "b"}
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens


def test_a_limit_makes_it_incomplete(client: openai.OpenAI) -> None:
    response = create(client, max_output_tokens=3)
    assert response.status == "incomplete"
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.usage.output_tokens == 3


@pytest.mark.parametrize("most", [1, 7, 400])
def test_a_stream_ends_with_the_whole_response(client: openai.OpenAI, most: int) -> None:
    whole = create(client, max_output_tokens=most)
    told = list(create(client, max_output_tokens=most, stream=True))
    last = told[-1].response
    assert [event.sequence_number for event in told] == list(range(len(told)))
    assert (
        "".join(event.delta for event in told if event.type == "response.output_text.delta")
        == whole.output_text
    )
    changes = ("id", "created_at", "completed_at", "output")
    same = {key: value for key, value in whole.to_dict().items() if key not in changes}
    assert {key: value for key, value in last.to_dict().items() if key not in changes} == same
    assert last.output_text == whole.output_text


def test_the_streaming_helper_accepts_the_stream(client: openai.OpenAI) -> None:
    with client.responses.stream(model=MODEL, input="Hello", instructions="Be brief.") as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_response()
    assert {"response.created", "response.output_item.done", "response.completed"} <= kinds
    assert "Be brief." in final.output_text


async def test_the_async_client(served: Served) -> None:
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client:
        whole = await client.responses.create(**BODY)
        async with client.responses.stream(model=MODEL, input="Hello", instructions="Be brief.") as stream:
            final = await stream.get_final_response()
    assert final.output_text == whole.output_text


def test_a_response_can_be_fetched_listed_and_forgotten(client: openai.OpenAI) -> None:
    response = create(client)
    assert client.responses.retrieve(response.id).to_dict() == response.to_dict()
    items: list[Any] = list(client.responses.input_items.list(response.id))
    assert [item.content[0].text for item in items] == ["Hello"]
    client.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


def test_a_streamed_response_is_stored_too(client: openai.OpenAI) -> None:
    last = list(create(client, stream=True))[-1].response
    assert client.responses.retrieve(last.id).to_dict() == last.to_dict()


def test_a_conversation_goes_on_without_its_instructions(client: openai.OpenAI) -> None:
    first = create(client, input="My name is Ada.")
    second = create(client, input="Who am I?", previous_response_id=first.id, instructions="Be long.")
    assert second.previous_response_id == first.id
    client.responses.delete(first.id)
    third = create(client, input="Again!", previous_response_id=second.id, instructions="Be kind.")
    texts = ["My name is Ada.", first.output_text, "Who am I?", second.output_text, "Again!"]
    turns = [
        {"role": "assistant" if index % 2 else "user", "content": text} for index, text in enumerate(texts)
    ]
    whole = create(client, input=turns, instructions="Be kind.")
    assert third.usage.input_tokens == whole.usage.input_tokens
    assert third.output_text == "system\nBe kind."
    roles = [item.role for item in client.responses.input_items.list(third.id, order="asc")]  # type: ignore[union-attr]
    assert roles == ["user", "assistant", "user", "assistant", "user"]


def test_the_input_is_listed_in_pages(client: openai.OpenAI, http: httpx.Client) -> None:
    response = create(client, input=[{"role": "user", "content": str(number)} for number in range(5)])
    path = f"/v1/responses/{response.id}/input_items"
    page = http.get(path, params={"limit": 2}).json()
    assert [item["content"][0]["text"] for item in page["data"]] == ["4", "3"]
    assert (page["has_more"], page["last_id"]) == (True, page["data"][-1]["id"])
    rest = http.get(path, params={"limit": 3, "after": page["last_id"]}).json()
    assert [item["content"][0]["text"] for item in rest["data"]] == ["2", "1", "0"]
    assert rest["has_more"] is False
    assert http.get(path, params={"limit": 0}).json()["error"]["param"] == "limit"


def test_what_is_not_to_be_stored_is_not(client: openai.OpenAI) -> None:
    response = create(client, store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)
    with pytest.raises(openai.BadRequestError) as caught:
        create(client, previous_response_id=response.id)
    assert caught.value.code == "previous_response_not_found"
    assert caught.value.param == "previous_response_id"


def until_ended(client: openai.OpenAI, response_id: str) -> Any:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        response = client.responses.retrieve(response_id)
        if response.status not in ("queued", "in_progress"):
            return response
        time.sleep(0.05)
    raise AssertionError("it does not end")


def test_a_background_response_is_queued_then_completed(client: openai.OpenAI) -> None:
    response = create(client, background=True)
    assert (response.status, response.output, response.background) == ("queued", [], True)
    ended = until_ended(client, response.id)
    assert (ended.id, ended.status) == (response.id, "completed")
    assert "Be brief." in ended.output_text
    assert client.responses.cancel(response.id).status == "completed"  # too late


def test_a_background_stream_can_be_taken_up_again(client: openai.OpenAI) -> None:
    told = []
    for event in create(client, background=True, stream=True, instructions=LONG, max_output_tokens=300):
        told.append(event)
        if len(told) == 10:
            break
    response_id = told[0].response.id
    rest = list(client.responses.retrieve(response_id, stream=True, starting_after=told[-1].sequence_number))
    assert [event.sequence_number for event in [*told, *rest]] == list(range(len(told) + len(rest)))
    assert [event.type for event in told[:3]] == [
        "response.created",
        "response.queued",
        "response.in_progress",
    ]
    assert rest[-1].type == "response.incomplete"
    assert rest[-1].response == client.responses.retrieve(response_id)


def test_only_what_runs_in_the_background_is_cancelled_or_followed(client: openai.OpenAI) -> None:
    response = create(client)
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(response.id)
    with pytest.raises(openai.BadRequestError):
        client.responses.retrieve(response.id, stream=True)
    with pytest.raises(openai.BadRequestError) as caught:
        create(client, background=True, store=False)
    assert caught.value.param == "store"


def test_the_prompt_is_counted_as_it_is_served(client: openai.OpenAI) -> None:
    first = create(client, instructions="Be brief.")
    count = client.responses.input_tokens.count(model=MODEL, input="Hello", instructions="Be brief.")
    assert count.input_tokens == first.usage.input_tokens
    count = client.responses.input_tokens.count(
        model=MODEL, input="More", previous_response_id=first.id, instructions="Be brief."
    )
    assert (
        count.input_tokens == create(client, input="More", previous_response_id=first.id).usage.input_tokens
    )


def test_stream_lines_are_server_sent_events(http: httpx.Client) -> None:
    answer = http.post("/v1/responses", json={**BODY, "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert events(answer.content)[-1]["type"] == "response.completed"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"temperature": 3}, "temperature"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_output_tokens": 9000}, "max_output_tokens"),
        ({"input": []}, "input"),
        ({"input": [3]}, "input.0"),
        ({"input": "word " * 9000}, "input"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "http://x"}]}]},
            "input[0].content[0]",
        ),
        (
            {"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{"}]},
            "input[0].arguments",
        ),
        ({"tools": [{"type": "web_search"}]}, "tools.0"),
        ({"tools": [{"type": "function", "name": "f", "colour": 1}]}, "tools.0.colour"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.name"),
        ({"truncation": "auto"}, "truncation"),
        ({"include": ["reasoning.encrypted_content"]}, "include.0"),
        ({"reasoning": {"summary": "auto"}}, "reasoning.summary"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"metadata": {"a": 3}}, "metadata.a"),
        ({"stop": "x"}, "stop"),
        ({"stream": True, "max_output_tokens": 9000}, "max_output_tokens"),
    ],
)
def test_a_bad_parameter_is_named(http: httpx.Client, change: dict[str, Any], param: str) -> None:
    answer = http.post("/v1/responses", json={**BODY, **change})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param), error


def test_a_misspelled_parameter_suggests_the_right_one(http: httpx.Client) -> None:
    error = http.post("/v1/responses", json={**BODY, "max_output_token": 3}).json()["error"]
    assert "'max_output_tokens'" in error["message"]


def test_an_unknown_model_is_a_404(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        create(client, model="gpt-7")
    assert caught.value.code == "model_not_found"


async def test_many_at_once_do_not_mix(served: Served) -> None:
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client:

        async def ask(number: int) -> str:
            response = await client.responses.create(model=MODEL, input="Hi", instructions=f"{number} " * 5)
            return response.output_text

        answers = await asyncio.gather(*(ask(number) for number in range(100, 132)))
    for number, text in zip(range(100, 132), answers, strict=True):
        assert text.count(str(number)) == 5


def test_what_a_stored_response_is_asked_for_is_honoured_or_refused(
    client: openai.OpenAI, http: httpx.Client
) -> None:
    response = create(client)
    again = client.responses.retrieve(response.id, include=["message.output_text.logprobs"])
    assert again.output_text == response.output_text
    for query in ("include[]=file_search_call.results", "include_obfuscation=true", "expand=all"):
        answer = http.get(f"/v1/responses/{response.id}?{query}")
        assert answer.status_code == 400, answer.text
        assert (
            answer.json()["error"]["param"].split("[")[0].split(".")[0] == query.split("=")[0].split("[")[0]
        )
    assert http.get(f"/v1/responses/{response.id}?include_obfuscation=false").status_code == 200
