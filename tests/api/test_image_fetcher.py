"""Images from the web: a real server on loopback, which only a test may ask, and what nobody may ask."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from openllm.api import image_fetcher
from openllm.api.image_fetcher import ImageFetcher, is_public
from openllm.errors import NotAllowed, RequestError

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(1000)


class _Site(BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path.startswith("/to?"):
            self.send_response(302)
            self.send_header("Location", self.path[4:])
            self.end_headers()
        elif self.path == "/picture":
            self._body(PICTURE)
        elif self.path == "/large":
            self._body(bytes(3000))
        elif self.path == "/slow":
            self.send_response(200)
            self.end_headers()
            time.sleep(1)
        else:
            self.send_error(404)

    def _body(self, body: bytes) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    _Site.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), _Site) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def here(address: str) -> bool:
    """Judges as if loopback were the web, and the rest were not."""
    return address == "127.0.0.1"


async def fetch(url: str, *hosts: str, allowed: object = here) -> bytes:
    fetcher = ImageFetcher(hosts or ("127.0.0.1",), allowed)  # type: ignore[arg-type]
    try:
        return await fetcher.fetch(url, "messages[0]")
    finally:
        await fetcher.close()


async def test_the_body_comes(site: str) -> None:
    assert await fetch(f"{site}/picture") == PICTURE
    assert await fetch(f"{site}/to?/picture") == PICTURE
    assert await fetch(f"{site}/picture", "*") == PICTURE


async def test_a_host_that_is_not_on_the_list(site: str) -> None:
    with pytest.raises(NotAllowed, match=r"127\.0\.0\.1"):
        await fetch(f"{site}/picture", "example.com")
    assert _Site.asked == []


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "127.1", "2130706433", "[::ffff:127.0.0.1]"]
)
async def test_this_machine_is_never_asked(site: str, host: str) -> None:
    with pytest.raises((NotAllowed, RequestError)):
        await fetch(site.replace("127.0.0.1", host) + "/picture", "*", allowed=is_public)
    assert _Site.asked == []


async def test_a_redirect_is_a_new_question(site: str) -> None:
    inside = site.replace("127.0.0.1", "127.0.0.2")
    with pytest.raises(NotAllowed):
        await fetch(f"{site}/to?{inside}/picture", "*")
    with pytest.raises(NotAllowed):
        await fetch(f"{site}/to?http://elsewhere.test/picture")
    for target in ("file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/"):
        with pytest.raises(RequestError, match="http"):
            await fetch(f"{site}/to?{target}", "*")
    assert not [path for path in _Site.asked if path == "/picture"]


async def test_redirects_come_to_an_end(site: str) -> None:
    with pytest.raises(RequestError, match="redirected"):
        await fetch(f"{site}/to?{site}/to?{site}/to?{site}/to?{site}/picture")


async def test_a_body_without_end(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_fetcher, "MOST_BYTES", 2000)
    with pytest.raises(RequestError, match="larger"):
        await fetch(f"{site}/large")
    assert await fetch(f"{site}/picture") == PICTURE


async def test_a_server_that_does_not_come_to_the_point(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_fetcher, "SECONDS", 0.2)
    with pytest.raises(RequestError, match="within"):
        await fetch(f"{site}/slow")


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http:///x",
        "http://a:b@127.0.0.1/",
        "javascript:alert(1)",
        "/etc/passwd",
        "http://[::1",
        "http://h:x/",
    ],
)
async def test_what_is_no_url(url: str) -> None:
    with pytest.raises(RequestError):
        await fetch(url, "*")


async def test_errors_name_the_field_and_not_what_was_found(site: str) -> None:
    with pytest.raises(RequestError, match=r"messages\[0\].*404"):
        await fetch(f"{site}/nothing")
    with pytest.raises(RequestError, match="could not be fetched"):
        await fetch("http://127.0.0.1:9/picture")


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1", "192.168.1.1", "198.18.0.1",
        "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fc00::1", "fe80::1", "fe80::1%eth0", "ff02::1",
        "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a00:1", "2002:7f00:1::", "2001:0:1::", "2001:db8::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_the_web(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_addresses_that_are(address: str) -> None:
    assert is_public(address)
