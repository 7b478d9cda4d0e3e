"""Images in messages: what is taken, what is refused, and that a vision model on the real engine sees them."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

from openllm.api import images
from openllm.api.images import Images
from openllm.api.parameters import ChatRequest
from openllm.engines.base import Generation, Sampling
from openllm.errors import NotAllowed, OpenLLMError, RequestError, UnsupportedParameter
from openllm.runner.wire import Add, parted
from tests.engines.child import Child
from tests.serving import MODEL, Served, serving
from tests.vision import TinyVision


def picture(seed: int, form: str = "png", size: tuple[int, int] = (60, 80)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def data_url(image: bytes, form: str = "png") -> str:
    return f"data:image/{form};base64,{base64.b64encode(image).decode()}"


def messages(*parts: str | dict[str, Any]) -> list[dict[str, Any]]:
    """One message of the user: texts, URLs of images, or parts as they are."""
    content = []
    for part in parts:
        if isinstance(part, dict):
            content.append(part)
        elif ":" in part:
            content.append({"type": "image_url", "image_url": {"url": part}})
        else:
            content.append({"type": "text", "text": part})
    return [{"role": "user", "content": content}]


class Web:
    """Stands for the fetcher, which is tested by itself against a real server: here only its being asked counts."""

    async def fetch(self, url: str, where: str) -> bytes:
        return picture(len(url))


async def loaded(*parts: str | dict[str, Any], sees: bool = True, web: bool = False) -> tuple[bytes, ...]:
    request = ChatRequest(model="m", messages=messages(*parts))
    await Images(sees, Web() if web else None).load(request)
    return request.images


async def test_images_come_in_the_order_of_their_parts() -> None:
    first, second = picture(1), picture(2, "webp")
    web = "http://example.com/a.png"
    assert await loaded("a", data_url(first), "b", web, data_url(second, "webp"), web=True) == (
        first,
        picture(len(web)),
        second,
    )
    assert await loaded("only text") == ()


@pytest.mark.parametrize(
    ("part", "kind", "said"),
    [
        ("data:image/png;base64,AAAA", RequestError, "no PNG"),
        ("data:image/png;base64,***", RequestError, "base64"),
        ("data:image/svg+xml;base64,AAAA", RequestError, "image/png"),
        ("data:text/html,hello", RequestError, "image/png"),
        ("https://example.com/x.png", NotAllowed, "fetches no images"),
        ({"type": "image_url"}, RequestError, "url"),
        ({"type": "image_url", "image_url": "data:"}, RequestError, "url"),
        ({"type": "image_url", "image_url": {"url": "data:", "size": 1}}, UnsupportedParameter, "size"),
        ({"type": "image_url", "image_url": {"url": "data:", "detail": "best"}}, RequestError, "detail"),
    ],
)
async def test_what_is_refused(part: str | dict[str, Any], kind: type[OpenLLMError], said: str) -> None:
    with pytest.raises(kind, match=said) as caught:
        await loaded("look", part)
    assert "messages[0].content[1]" in caught.value.message


async def test_images_that_are_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = bytearray(picture(1))
    bomb[16:24] = (50_000).to_bytes(4, "big") * 2  # of width and height a decoder would believe
    with pytest.raises(RequestError, match="50000 x 50000"):
        await loaded(data_url(bytes(bomb)))
    monkeypatch.setattr(images, "MOST_BYTES", 100)
    with pytest.raises(RequestError, match="too large"):
        await loaded(data_url(picture(1)))


async def test_too_many_images(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestError, match="9 images"):
        await loaded(*[data_url(picture(1))] * 9)
    monkeypatch.setattr(images, "MOST_BYTES_IN_ALL", 20_000)
    assert len(await loaded(data_url(picture(1)))) == 1
    with pytest.raises(RequestError, match="together"):
        await loaded(data_url(picture(1)), data_url(picture(2)))


def test_sequences_with_images_travel_one_by_one() -> None:
    sampling = Sampling(1)
    plain = Add([Generation(1, [1], sampling), Generation(2, [1], sampling)])
    seeing = Add([Generation(3, [1], sampling, images=(b"x",)), Generation(4, [1], sampling)])
    assert list(parted(plain)) == [plain]
    assert list(parted(seeing)) == [Add([each]) for each in seeing.generations]


async def test_a_model_that_does_not_see() -> None:
    with pytest.raises(UnsupportedParameter, match="text only"):
        await loaded("look", data_url(picture(1)), sees=False)


def test_a_text_model_answers_400(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="text only"):
        client.chat.completions.create(model=MODEL, messages=messages(data_url(picture(1))))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Child]]:
    if find_spec("vllm") is None:
        pytest.skip("vllm is not installed")
    folder = tmp_path_factory.mktemp("vision") / "tiny-idefics3"
    child = Child(TinyVision, folder)
    yield folder, child
    child.close()


@pytest.fixture(scope="module")
def seeing(tiny: tuple[Path, Child]) -> Iterator[Served]:
    options = ("--dtype", "float32", "--kv-cache", "32MiB", "--threads", "1", "--concurrency", "8")
    with serving(str(tiny[0]), "--backend", "vllm", *options) as server:
        server.until_ready(240)
        yield server


def ask(served: Served, conversation: list[dict[str, Any]], **options: Any) -> str:
    with served.client as client:
        answer = client.chat.completions.create(
            model="tiny-idefics3",
            messages=conversation,  # type: ignore[arg-type]
            temperature=0,
            **{"max_tokens": 10, **options},
        )
    return answer.choices[0].message.content or ""


def test_its_text_is_that_of_transformers(seeing: Served, tiny: tuple[Path, Child]) -> None:
    first, second, third = picture(1), picture(2, "webp", (30, 90)), picture(3, "png", (100, 40))
    forms = {first: "png", second: "webp", third: "png"}
    asked: list[list[str | bytes]] = [
        [first],
        [second, "what"],
        ["compare", first, "with", third],
        [third, third],
    ]
    for parts in asked:
        conversation = messages(
            *(part if isinstance(part, str) else data_url(part, forms[part]) for part in parts)
        )
        expected = tiny[1].ask(TinyVision.answer, parts, 10)
        assert ask(seeing, conversation) == expected
    assert ask(seeing, messages(data_url(first))) != ask(seeing, messages(data_url(second, "webp")))


def test_text_alone_and_its_errors(seeing: Served, tiny: tuple[Path, Child]) -> None:
    assert ask(seeing, messages("what")) == tiny[1].ask(TinyVision.answer, ["what"], 10)
    whole = picture(1)
    for image in (whole[: len(whole) // 2], picture(5, size=(9, 9))[:60]):
        with pytest.raises(openai.BadRequestError, match="cannot be decoded"):
            ask(seeing, messages(data_url(image)))
    marked: tuple[tuple[str, ...], ...] = (("<image> without one", data_url(whole)), ("<image>",))
    for parts in marked:
        with pytest.raises(openai.BadRequestError, match="marks of images"):
            ask(seeing, messages(*parts))
    with pytest.raises(openai.PermissionDeniedError):
        ask(seeing, messages("http://169.254.169.254/latest/meta-data"))
    assert ask(seeing, messages("what")) == tiny[1].ask(TinyVision.answer, ["what"], 10)


def test_an_answer_ends_where_the_context_does(seeing: Served) -> None:
    body = {
        "model": "tiny-idefics3",
        "messages": messages(data_url(picture(1))),
        "ignore_eos": True,
    }
    answer = httpx.post(f"{seeing.url}/v1/chat/completions", json=body, timeout=120).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["total_tokens"] == 512
    assert answer["usage"]["prompt_tokens"] > 20  # four tokens for each of five cuts of the image
