"""Fetches images from the web, and only from there.

Whoever can make a server fetch a URL can ask what only that server can reach: the machine itself, its network, the
metadata of a cloud. So the hosts must be allowed by name, every address that a name has must be a public one, and the
connection goes to the very address that was looked at: a name that is looked up twice may have moved in between.
Redirects are followed as new questions.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpcore2

from openllm.errors import NotAllowed, RequestError

MOST_BYTES = 20 << 20
SECONDS = 10.0
ANY_HOST = "*"
_MOST_REDIRECTS = 3
_REDIRECTS = (301, 302, 303, 307, 308)
# IPv6 that only carries an IPv4 address: NAT64, 6to4 and Teredo reach what that address reaches.
_CARRIERS = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")))


def is_public(address: str) -> bool:
    """Is it an address of the public internet, for one host, and not a way around to another?"""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return is_public(str(found.ipv4_mapped))
        if any(found in carrier for carrier in _CARRIERS):
            return False
    return found.is_global and not found.is_multicast


class ImageFetcher:
    """``hosts`` may be asked, ``ANY_HOST`` stands for all; ``allowed`` judges each address."""

    def __init__(self, hosts: Iterable[str], allowed: Callable[[str], bool] = is_public) -> None:
        self._hosts = frozenset(host.lower().rstrip(".") for host in hosts)
        self._pool = httpcore2.AsyncConnectionPool(
            network_backend=_CheckedNetwork(allowed), max_keepalive_connections=0
        )

    async def fetch(self, url: str, where: str) -> bytes:
        """The body behind ``url``, at most ``MOST_BYTES``, within ``SECONDS``. ``where`` names the field in errors.

        Raises ``NotAllowed`` for a host or an address that may not be asked, ``RequestError`` if it does not answer
        with a body that is small enough.
        """
        try:
            async with asyncio.timeout(SECONDS):
                return await self._follow(url, where)
        except TimeoutError:
            raise _failed(where, f"did not come within {SECONDS:.0f} s") from None
        except (
            httpcore2.NetworkError,
            httpcore2.ProtocolError,
            httpcore2.TimeoutException,
            OSError,
        ) as error:
            raise _failed(where, f"could not be fetched ({type(error).__name__})") from error

    async def close(self) -> None:
        await self._pool.aclose()

    async def _follow(self, url: str, where: str) -> bytes:
        for _ in range(_MOST_REDIRECTS + 1):
            self._check(url, where)
            answer = await self._ask(url, where)
            if isinstance(answer, bytes):
                return answer
            url = answer
        raise _failed(where, f"was redirected more than {_MOST_REDIRECTS} times")

    def _check(self, url: str, where: str) -> None:
        try:
            parts = urlsplit(url)
            host, _ = (parts.hostname or "").lower().rstrip("."), parts.port
        except ValueError:
            raise _failed(where, "is no URL") from None
        if parts.scheme not in ("http", "https") or not host or parts.username is not None:
            raise _failed(where, "is no plain http or https URL")
        if host not in self._hosts and ANY_HOST not in self._hosts:
            raise NotAllowed(
                f"{where}: this server fetches no images from {host[:100]}.",
                hint="Send the image as a data: URL.",
                param=where,
            )

    async def _ask(self, url: str, where: str) -> bytes | str:
        """The body, or where it is now."""
        headers = {"Accept": "image/png, image/jpeg, image/webp, image/gif", "Accept-Encoding": "identity"}
        async with self._pool.stream("GET", url, headers=list(headers.items())) as response:
            fields = {name.lower(): value for name, value in response.headers}
            if response.status in _REDIRECTS and b"location" in fields:
                return urljoin(url, fields[b"location"].decode("latin-1"))
            if response.status != 200:
                raise _failed(where, f"was answered with HTTP status {response.status}")
            body = bytearray()
            async for piece in response.aiter_stream():
                body += piece
                if len(body) > MOST_BYTES:
                    raise _failed(where, f"is larger than {MOST_BYTES >> 20} MiB")
            return bytes(body)


class _CheckedNetwork(httpcore2.AnyIOBackend):
    """Looks a name up once, judges all of its addresses, and connects to one that was judged."""

    def __init__(self, allowed: Callable[[str], bool]) -> None:
        self._allowed = allowed

    async def connect_tcp(self, host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [str(entry[4][0]) for entry in found]
        if not addresses or not all(map(self._allowed, addresses)):
            raise NotAllowed(
                f"{host[:100]} is at an address that this server does not ask for images.",
                hint="Send the image as a data: URL.",
            )
        return await super().connect_tcp(addresses[0], port, *args, **kwargs)


def _failed(where: str, what: str) -> RequestError:
    return RequestError(f"{where}: the image {what}.", hint="Send it as a data: URL.", param=where)
