"""The images of a conversation: found in its messages, brought here, and looked at before an engine sees them."""

from __future__ import annotations

import asyncio
import binascii
import re
from collections.abc import Iterator
from typing import Any, Protocol

from openllm.api.parameters import ChatRequest
from openllm.api.side_lane import aside
from openllm.chat.image_header import ImageHeader, read_image_header
from openllm.engines.base import MOST_IMAGES
from openllm.errors import NotAllowed, RequestError, UnsupportedParameter

MOST_BYTES = 20 << 20
MOST_BYTES_IN_ALL = 64 << 20
"""Of one request, as often as it asks for choices: each sequence carries its images to the engine."""
MOST_PIXELS = 36_000_000
"""Of one image, as it would be decoded: 108 MB in RGB."""

_DATA = re.compile(r"data:image/(png|jpe?g|webp|gif)(?:;[\w.-]+=[\w.-]+)*;base64,", re.IGNORECASE)
_PART = 1 << 20  # characters, whole groups of four
_DETAILS = (None, "auto", "low", "high")


class Fetcher(Protocol):
    """Brings what is behind a URL; see ``image_fetcher.ImageFetcher``."""

    async def fetch(self, url: str, where: str) -> bytes: ...


class Images:
    """``sees``: can the model and its engine take images at all? ``fetcher`` None leaves only ``data:`` URLs."""

    def __init__(self, sees: bool, fetcher: Fetcher | None) -> None:
        self._sees = sees
        self._fetcher = fetcher

    async def load(self, request: ChatRequest) -> None:
        """Set ``request.images`` to those of its messages, in order, as PNG, JPEG, WebP or GIF files.

        May wait for the web. Raises ``UnsupportedParameter`` where the model does not see, ``RequestError`` for what
        is no image or too large, ``NotAllowed`` for a URL that may not be fetched.
        """
        found = await aside(lambda: list(_image_parts(request.messages)))
        if not found:
            return
        if not self._sees:
            raise UnsupportedParameter(
                f"{found[0][0]} is an image; this model takes text only.",
                hint='Send parts of the type "text", or serve a vision model with --backend vllm.',
                param=found[0][0],
            )
        if len(found) > MOST_IMAGES:
            raise RequestError(
                f"There are {len(found)} images; the most is {MOST_IMAGES}.",
                hint="Send fewer.",
                param="messages",
            )
        loaded = await asyncio.gather(*(self._image(part, where) for where, part in found))
        if (total := sum(map(len, loaded)) * (request.n or 1)) > MOST_BYTES_IN_ALL:
            raise RequestError(
                f"The images are too large together ({total >> 20} MiB, times n).",
                hint=f"Send at most {MOST_BYTES_IN_ALL >> 20} MiB.",
                param="messages",
            )
        request.images = tuple(loaded)

    async def _image(self, part: dict[str, Any], where: str) -> bytes:
        url = _url(part, where)
        if url[:5].lower() == "data:":
            data = await aside(lambda: _decoded(url, where))
        elif self._fetcher is None:
            raise NotAllowed(
                f"{where}: this server fetches no images.",
                hint="Send it as a data: URL, or start the server with --allow-image-urls.",
                param=where,
            )
        else:
            data = await self._fetcher.fetch(url, where)
        _check(data, where)
        return data


def _image_parts(messages: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each image part, and where it is. Whatever else is wrong with a message is found when it is rendered."""
    for index, message in enumerate(messages):
        content = message.get("content")
        for at, part in enumerate(content if isinstance(content, list) else ()):
            if isinstance(part, dict) and part.get("type") == "image_url":
                yield f"messages[{index}].content[{at}]", part


def _url(part: dict[str, Any], where: str) -> str:
    image = part.get("image_url")
    if not isinstance(image, dict) or not isinstance(image.get("url"), str):
        raise RequestError(
            f"{where}.image_url must be an object with a url.", hint="Correct the message.", param=where
        )
    for key in image.keys() - {"url", "detail"} or part.keys() - {"type", "image_url"}:
        raise UnsupportedParameter(f"{where}: {key} is not supported.", hint="Leave it out.", param=where)
    if image.get("detail") not in _DETAILS:
        raise RequestError(
            f"{where}.image_url.detail must be auto, low or high.", hint="Leave it out.", param=where
        )
    url: str = image["url"]
    return url


def _decoded(url: str, where: str) -> bytes:
    found = _DATA.match(url)
    if found is None:
        raise RequestError(
            f"{where}: the data: URL is not one of image/png, image/jpeg, image/webp or image/gif in base64.",
            hint="Write data:image/png;base64,...",
            param=where,
        )
    if len(url) - found.end() > MOST_BYTES * 4 // 3 + 4:
        raise _too_large(where, f"more than {MOST_BYTES >> 20} MiB")
    try:
        return b"".join(_parts(url, found.end()))
    except ValueError:
        raise RequestError(
            f"{where}: the data: URL is not base64.", hint="Correct the image.", param=where
        ) from None


def _parts(url: str, start: int) -> Iterator[bytes]:
    """The bytes that base64 says from ``start`` on, in parts: a decoder does not let go of the interpreter."""
    for at in range(start, len(url), _PART):
        part = binascii.a2b_base64(url[at : at + _PART], strict_mode=True)
        if len(part) % 3 and at + _PART < len(url):
            raise ValueError  # it ends within the text
        yield part


def _check(data: bytes, where: str) -> ImageHeader:
    if len(data) > MOST_BYTES:
        raise _too_large(where, f"more than {MOST_BYTES >> 20} MiB")
    header = read_image_header(data)
    if header is None:
        raise RequestError(
            f"{where} is no PNG, JPEG, WebP or GIF image.", hint="Convert the image.", param=where
        )
    if header.pixels > MOST_PIXELS:
        raise _too_large(where, f"{header.width} x {header.height} pixels")
    return header


def _too_large(where: str, what: str) -> RequestError:
    return RequestError(
        f"{where}: the image is too large ({what}).",
        hint=f"Send at most {MOST_BYTES >> 20} MiB and {MOST_PIXELS // 1_000_000} million pixels.",
        param=where,
    )
