"""What a server leaves to the one that replaces it."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import NamedTuple

TAKES_OVER = b"takes over"


class Bequest(NamedTuple):
    """What the new process was given: numbers of open files, and the process that gave them."""

    sock: int
    pipe: int
    predecessor: int

    @classmethod
    def parse(cls, text: str) -> Bequest:
        """From the variable's text."""
        return cls(*map(int, text.split(",")))

    def text(self) -> str:
        """As ``parse`` takes it."""
        return ",".join(map(str, self))

    def socket(self) -> socket.socket:
        """The listening socket. Children of this process do not get it."""
        sock = socket.socket(fileno=self.sock)
        sock.set_inheritable(False)
        os.set_inheritable(self.pipe, False)
        return sock

    def take_over(self) -> None:
        """Tell the predecessor to end. A process that ends without it tells it to go on."""
        with contextlib.suppress(BrokenPipeError), os.fdopen(self.pipe, "wb") as pipe:
            pipe.write(TAKES_OVER)
