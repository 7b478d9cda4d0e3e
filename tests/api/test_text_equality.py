"""The same request gives the same text: streamed or whole, alone or in a batch, wherever tokens and stops are cut.

In float32: with fewer bits the sums of a batch round differently, and greedy answers with them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from tests.serving import MODEL, Served, serving

THINGS = [
    "sea",
    "tree",
    "moon",
    "river",
    "winter",
    "bread",
    "clock",
    "dog",
    "city",
    "garden",
    "king",
    "letter",
    "train",
    "storm",
    "song",
    "market",
]
ASKED = (
    *(f"Write a sentence about the {thing}." for thing in THINGS),
    *(f"Tell a child what a {thing} is. Use an emoji." for thing in THINGS),
    "Antworte auf Deutsch: Wie hei\u00dft du?", "\u00bfCu\u00e1l es la capital de Espa\u00f1a?",
    "List three colours.", "Write a haiku.", "Count to ten.", "Write Python that adds two numbers.",
    "Who are you?", "Give me a JSON object with a name and an age.",
)  # fmt: skip
CONTINUED = (
    "\U0001f600\U0001f603\U0001f604\U0001f601\U0001f606\U0001f605", "\U0001f436\U0001f431\U0001f42d\U0001f439",
    "\U0001f34e \U0001f34f \U0001f34e \U0001f34f \U0001f34e", "I love you \u2764\ufe0f\u2764\ufe0f\u2764\ufe0f",
    "\U0001f1eb\U0001f1f7 \U0001f1e9\U0001f1ea \U0001f1eb\U0001f1f7 \U0001f1e9\U0001f1ea",
    "\u65e5\u672c\u8a9e\u65e5\u672c\u8a9e\u65e5\u672c\u8a9e",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440",
    "Once upon a time", "1, 2, 3, 4,", "def add(a, b):",
)  # fmt: skip
PROMPTS = [*(("chat", text) for text in ASKED), *(("text", text) for text in CONTINUED)]
TOKENS = 16
AT_ONCE = 16
# Two words' ends: a token begins with its space, so that this is never within one.
ACROSS = re.compile(r"\w\w \w\w")
Prompt = tuple[str, str]
Answer = tuple[str, str | None]
"""A text, and why it ended."""


@pytest.fixture(scope="module", params=["openvino", "vllm"])
def exact(request: pytest.FixtureRequest) -> Iterator[openai.OpenAI]:
    if request.param == "vllm":
        server: Served = request.getfixturevalue("vllm_float32")
        with server.client as client:
            yield client
        return
    with serving(MODEL, "--dtype", "float32", "--kv-cache-dtype", "float32") as server:
        server.until_ready()
        with server.client as client:
            yield client


def whole(client: openai.OpenAI, prompt: Prompt, **options: Any) -> Answer:
    kind, text = prompt
    options = {"model": MODEL, "temperature": 0, "max_tokens": TOKENS, **options}
    if kind == "chat":
        chat = client.chat.completions.create(
            messages=[{"role": "user", "content": text}], **options
        ).choices[0]
        return chat.message.content or "", chat.finish_reason
    choice = client.completions.create(prompt=text, **options).choices[0]
    return choice.text, choice.finish_reason


def streamed(client: openai.OpenAI, prompt: Prompt, **options: Any) -> Answer:
    kind, text = prompt
    options = {"model": MODEL, "temperature": 0, "max_tokens": TOKENS, "stream": True, **options}
    pieces, reason = [], None
    if kind == "chat":
        for chunk in client.chat.completions.create(messages=[{"role": "user", "content": text}], **options):
            pieces.append(chunk.choices[0].delta.content or "")
            reason = chunk.choices[0].finish_reason or reason
    else:
        for chunk in client.completions.create(prompt=text, **options):
            pieces.append(chunk.choices[0].text)
            reason = chunk.choices[0].finish_reason or reason
    return "".join(pieces), reason


def together(ask: Callable[[int], Answer]) -> list[Answer]:
    """What all prompts are answered with, many at a time."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(ask, range(len(PROMPTS))))


@pytest.fixture(scope="module")
def answers(exact: openai.OpenAI) -> list[Answer]:
    """The whole answers, of a batch."""
    return together(lambda place: whole(exact, PROMPTS[place]))


def test_the_prompts_are_what_they_are_for(answers: list[Answer]) -> None:
    assert len(PROMPTS) == 50
    assert len({text for text, _ in answers}) > 40
    assert sum(any(ord(letter) > 0xFFFF for letter in text) for text, _ in answers) >= 3


def test_streamed_is_whole(exact: openai.OpenAI, answers: list[Answer]) -> None:
    assert together(lambda place: streamed(exact, PROMPTS[place])) == answers


def test_alone_is_as_in_a_batch(
    request: pytest.FixtureRequest, exact: openai.OpenAI, answers: list[Answer]
) -> None:
    """All of OpenVINO's answers, and each fifth of vLLM's, which is slow alone in float32."""
    step = 5 if request.node.callspec.params["exact"] == "vllm" else 1
    assert [whole(exact, prompt) for prompt in PROMPTS[::step]] == answers[::step]


def test_stops_across_tokens(exact: openai.OpenAI, answers: list[Answer]) -> None:
    """Each answer ends where two words of it meet, or before the last letter that a byte is too short for."""
    stops = []
    for text, _ in answers:
        found = [each[0] for each in ACROSS.finditer(text)]
        wide = [letter for letter in text if ord(letter) > 0xFFFF]
        stops.append(wide[-1] if wide else found[len(found) // 2] if found else None)
    places = [place for place, stop in enumerate(stops) if stop is not None]
    assert len(places) >= 40

    def ask(kind: Callable[..., Answer]) -> list[Answer]:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(lambda place: kind(exact, PROMPTS[place], stop=[stops[place]]), places))

    expected = [(answers[place][0].split(stops[place] or "")[0], "stop") for place in places]
    assert ask(whole) == expected
    assert ask(streamed) == expected


FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
SPLIT = (
    f"a \U0001f999 b {FAMILY} c", "\U0001f1eb\U0001f1f7\U0001f1e9\U0001f1ea", "\U0001f999" * 5,
    "\u2764\ufe0f \U0001f3f3\ufe0f\u200d\U0001f308", "\U00020000\U00020001 \u65e5\u672c", "x\u0301\u0323 \u00e9 \ufb01",
)  # fmt: skip


@pytest.mark.parametrize("text", SPLIT)
def test_letters_that_are_several_tokens(client: openai.OpenAI, http: httpx.Client, text: str) -> None:
    """The echo engine says the prompt again, a token a step, so that every letter that can be split is."""
    count = http.post("/tokenize", json={"prompt": text}).json()["count"]
    prompt = ("text", text)
    assert whole(client, prompt, max_tokens=count) == (text, "length")
    assert streamed(client, prompt, max_tokens=count) == (text, "length")
    for letter in sorted({letter for letter in text if ord(letter) > 0x7F}):
        before = text.split(letter)[0]
        assert whole(client, prompt, max_tokens=count, stop=[letter]) == (before, "stop")
        assert streamed(client, prompt, max_tokens=count, stop=[letter]) == (before, "stop")
