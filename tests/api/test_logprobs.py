"""Logprobs, echo and best_of through the official client. The echo engine is certain of the prompt's own tokens."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest

from tests.serving import MODEL

PROMPT = "One two three. 😀 déjà vu!"
MESSAGES: Any = [{"role": "user", "content": "Hello 😀 there"}]


def joined(content: list[Any]) -> bytes:
    return b"".join(bytes(token.bytes) for token in content)


@pytest.mark.parametrize("top", [None, 0, 3])
@pytest.mark.parametrize("stop", [None, "you", ["there", "are"]])
def test_chat_tells_each_token(client: openai.OpenAI, top: int | None, stop: Any) -> None:
    options: Any = {"max_tokens": 30, "logprobs": True, "top_logprobs": top, "stop": stop, "n": 2}
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, **options)
    chunks = list(client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True, **options))
    for index, choice in enumerate(answer.choices):
        assert choice.logprobs is not None
        content = choice.logprobs.content or []
        text = choice.message.content or ""
        assert choice.logprobs.refusal is None
        assert joined(content).startswith(text.encode())
        if stop is None:
            assert joined(content) == text.encode()
        assert all(token.logprob == 0 for token in content)
        assert all(
            [other.token for other in token.top_logprobs] == [token.token] * bool(top) for token in content
        )
        mine = [chunk.choices[0] for chunk in chunks if chunk.choices[0].index == index]
        streamed = [token for part in mine if part.logprobs for token in part.logprobs.content or []]
        assert [token.model_dump() for token in streamed] == [token.model_dump() for token in content]


def test_without_logprobs_there_are_none(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=3, logprobs=False)
    assert answer.choices[0].logprobs is None


@pytest.mark.parametrize("stop", [None, " three", ["vu", "😀"]])
def test_completions_tell_each_token(client: openai.OpenAI, stop: Any) -> None:
    options: Any = {"max_tokens": 12, "logprobs": 2, "stop": stop, "n": 2}
    prompts = [PROMPT, "aaa 😀 bbb"]
    answer = client.completions.create(model=MODEL, prompt=prompts, **options)
    chunks = list(client.completions.create(model=MODEL, prompt=prompts, stream=True, **options))
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    for choice in answer.choices:
        told = choice.logprobs
        assert told is not None
        assert told.token_logprobs == [0.0] * len(told.tokens or [])
        assert told.top_logprobs == [{token: 0.0} for token in told.tokens or []]
        whole = [
            (token, offset)
            for token, offset in zip(told.tokens or [], told.text_offset or [], strict=True)
            if not token.startswith("bytes:")
        ]
        assert whole
        for token, offset in whole:
            assert token.startswith(choice.text[offset:][: len(token)])
        mine = [chunk.choices[0] for chunk in chunks if chunk.choices[0].index == choice.index]
        for field in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
            streamed = [part for each in mine if each.logprobs for part in getattr(each.logprobs, field)]
            assert streamed == getattr(told, field)


@pytest.mark.parametrize("stream", [False, True])
def test_echo_puts_the_prompt_before_each_answer(client: openai.OpenAI, stream: bool) -> None:
    prompts = [PROMPT, "aaa bbb"]

    def ask(**options: Any) -> dict[int, str]:
        made: Any = client.completions.create(model=MODEL, prompt=prompts, n=2, max_tokens=4, **options)
        texts: dict[int, str] = {}
        for answer in made if options.get("stream") else [made]:
            for choice in answer.choices:
                texts[choice.index] = texts.get(choice.index, "") + choice.text
        return texts

    plain = ask()
    expected = {index: prompts[index // 2] + text for index, text in plain.items()}
    assert ask(echo=True, stream=stream) == expected


def test_echo_of_ids_is_their_text(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt=[[28120, 905], [28120]], max_tokens=0, echo=True)
    first, second = (choice.text for choice in answer.choices)
    assert second
    assert first.startswith(second)
    assert len(first) > len(second)


@pytest.mark.parametrize("stream", [False, True])
def test_no_tokens_may_be_asked_for_with_echo(client: openai.OpenAI, stream: bool) -> None:
    options: Any = {"stream_options": {"include_usage": True}} if stream else {}
    made: Any = client.completions.create(
        model=MODEL, prompt=PROMPT, max_tokens=0, echo=True, stream=stream, **options
    )
    parts = list(made) if stream else [made]
    choices = [choice for part in parts for choice in part.choices]
    assert "".join(choice.text for choice in choices) == PROMPT
    assert choices[-1].finish_reason == "length"
    assert parts[-1].usage.completion_tokens == 0
    assert parts[-1].usage.prompt_tokens == parts[-1].usage.total_tokens > 5


def test_best_of_generates_all_and_gives_some(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt=[PROMPT, "aaa"], n=2, best_of=5, max_tokens=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.choices[0].text == answer.choices[1].text != answer.choices[2].text
    assert all(choice.logprobs is None for choice in answer.choices)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 2 * 5 * 3
    same = client.completions.create(model=MODEL, prompt=PROMPT, n=2, best_of=2, max_tokens=3)
    assert same.usage is not None
    assert same.usage.completion_tokens == 6


def test_responses_include_logprobs(client: openai.OpenAI) -> None:
    options: Any = {"include": ["message.output_text.logprobs"], "top_logprobs": 2, "max_output_tokens": 20}
    whole = client.responses.create(model=MODEL, input="Hello 😀", **options)
    message: Any = whole.output[0]
    part = message.content[0]
    assert joined(part.logprobs).decode() == part.text
    assert all(len(token.top_logprobs) == 1 for token in part.logprobs)
    events = list(client.responses.create(model=MODEL, input="Hello 😀", stream=True, **options))
    streamed = [
        entry for event in events if event.type == "response.output_text.delta" for entry in event.logprobs
    ]
    assert [entry.token for entry in streamed] == [token.token for token in part.logprobs]
    done = next(event for event in events if event.type == "response.output_text.done")
    assert [entry.logprob for entry in done.logprobs] == [0.0] * len(part.logprobs)


TOOLS = [{"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}]


@pytest.mark.parametrize(
    ("path", "change", "param"),
    [
        ("chat/completions", {"top_logprobs": 3}, "top_logprobs"),
        ("chat/completions", {"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ("chat/completions", {"logprobs": 1}, "logprobs"),
        ("chat/completions", {"logprobs": True, "tools": TOOLS, "tool_choice": "required"}, "logprobs"),
        ("completions", {"logprobs": 6}, "logprobs"),
        ("completions", {"logprobs": True}, "logprobs"),
        ("completions", {"max_tokens": 0}, "max_tokens"),
        ("completions", {"n": 3, "best_of": 2}, "best_of"),
        ("completions", {"best_of": 2, "stream": True}, "best_of"),
        ("completions", {"logprobs": 1, "echo": True}, "logprobs"),  # it has no probabilities of prompts
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_is_refused_by_name(
    http: httpx.Client, path: str, change: dict[str, Any], param: str, stream: bool
) -> None:
    asked: dict[str, Any] = {"messages": MESSAGES} if path.startswith("chat") else {"prompt": PROMPT}
    answer = http.post(f"/v1/{path}", json={"model": MODEL, **asked, "stream": stream, **change})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param), error
    assert param in error["message"]
    assert "prompt_logprobs" not in error["message"]
