"""What a server holds: to be the same after as before."""

from __future__ import annotations

import re
import time
from typing import NamedTuple

import psutil

from tests.serving import Served

_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")


class Footprint(NamedTuple):
    """Of the front: bytes of memory, open files, child processes."""

    rss: int
    fds: int
    children: int


def footprint(server: Served) -> Footprint:
    front = psutil.Process(server.process.pid)
    return Footprint(front.memory_info().rss, front.num_fds(), len(front.children(recursive=True)))


def settled(server: Served, wanted: Footprint, *, seconds: float = 10.0) -> Footprint:
    """The footprint once it has no more files and children than ``wanted``, or after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        found = footprint(server)
        if (found.fds <= wanted.fds and found.children <= wanted.children) or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


class Counted(NamedTuple):
    """What the server says of its sequences: ended, by reason; and those that are still open."""

    ended: dict[str, int]
    open: int

    @property
    def answered(self) -> int:
        return self.ended.get("stop", 0) + self.ended.get("length", 0)


def counted(server: Served) -> Counted:
    """From ``/metrics``, as soon as nothing is open."""
    deadline = time.monotonic() + 10
    while True:
        ended: dict[str, int] = {}
        still_open = 0
        with server.http() as http:
            lines = http.get("/metrics").text.splitlines()
        for line in lines:
            found = _SAMPLE.match(line)
            if found is None:
                continue
            name, labels, value = found.groups()
            if name == "openllm_sequences_total":
                reason = re.search(r'reason="(\w+)"', labels)
                assert reason is not None
                ended[reason[1]] = ended.get(reason[1], 0) + int(float(value))
            elif name in ("openllm_sequences_waiting", "openllm_sequences_running"):
                still_open += int(float(value))
        if not still_open or time.monotonic() > deadline:
            return Counted(ended, still_open)
        time.sleep(0.1)
