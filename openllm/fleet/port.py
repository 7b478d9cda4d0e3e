"""The socket that the front listens on, bound before anything else is imported."""

from __future__ import annotations

import ipaddress
import socket

BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """A listening socket: the kernel queues connections from now on. Raises ``OSError``."""
    address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    sock = socket.socket(address[0], socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address[4])
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def address(sock: socket.socket, scheme: str = "http") -> str:
    """The URL of what listens on ``sock``."""
    host, port = sock.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def is_loopback(host: str) -> bool:
    """Can only this machine reach what listens on ``host``? False for a name that means nothing."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return all(ipaddress.ip_address(each[4][0]).is_loopback for each in found)
    except (OSError, ValueError):
        return False
