"""Talk to systemd: one datagram each to the socket that NOTIFY_SOCKET names, as sd_notify(3) has it."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping


class ServiceManager:
    """``socket_name`` None: there is none, and all is silent. ``watchdog`` is in seconds, None without one."""

    def __init__(self, socket_name: str | None, watchdog: float | None = None) -> None:
        self._address = socket_name
        self.watchdog = watchdog

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> ServiceManager:
        """As systemd describes itself to a service."""
        micros = environ.get("WATCHDOG_USEC", "")
        mine = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watchdog = int(micros) / 1e6 if micros.isdigit() and mine else None
        return cls(environ.get("NOTIFY_SOCKET") or None, watchdog)

    def ready(self) -> None:
        self._say("READY=1\nSTATUS=listening")

    def stopping(self) -> None:
        self._say("STOPPING=1")

    def alive(self) -> None:
        """To be said within ``watchdog`` again and again."""
        self._say("WATCHDOG=1")

    def main_process(self, pid: int) -> None:
        """Another process is the service from now on."""
        self._say(f"MAINPID={pid}")

    def _say(self, state: str) -> None:
        if self._address is None:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        # Whether it listens changes nothing for whom we serve.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(state.encode(), address)
