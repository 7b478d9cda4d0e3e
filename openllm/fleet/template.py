"""Runners from template processes: as `fleet.spawn`, without the time that an engine's imports take."""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from collections.abc import Callable

from openllm.fleet.forked import ForkedChild
from openllm.fleet.spawn import Spawned, socket_pair, spawn, start_module

_REMAINS_SECONDS = 1.0  # what a killed template left half made finds that out by itself


class TemplateSpawner:
    """See ``fleet.spawn.Spawner``. Keeps a template process for each engine, from its first use until ``close``: models
    of one engine share it.

    A template that ended is replaced at the next spawn; one that ended before it had made a runner is not, and that
    engine's runners start plainly from then on. ``tell`` hears of both. Linux only: see ``can_fork``.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._templates: dict[str, _Template] = {}
        self._plain: set[str] = set()
        self._bereft: set[int] = set()  # groups of templates that ended, until all of the group has

    def prepare(self, engine: str, *, threads: int | None = None) -> None:
        """Have the template import; returns at once."""
        with contextlib.suppress(OSError):  # no process can be had now: the spawn tries again
            self._template(engine, threads)

    def spawn(self, engine: str, *, threads: int | None = None) -> Spawned:
        """Ask for a runner; returns at once, however long the template still imports."""
        for _ in range(2):  # one that was killed just now is found by asking it
            template = self._template(engine, threads)
            spawned = None if template is None else template.fork()
            if spawned is not None:
                return spawned
        return spawn(engine, threads=threads)

    def pids(self) -> list[int]:
        """The process ids of the templates that run."""
        running = (each for each in self._templates.values() if each.process.poll() is None)
        return [template.process.pid for template in running if not template.became_runner]

    def close(self) -> None:
        """End the templates. Their runners go on."""
        for template in self._templates.values():
            self._end(template)
        self._templates.clear()
        deadline = time.monotonic() + _REMAINS_SECONDS
        while self._bereft and time.monotonic() < deadline:
            time.sleep(0.005)
            self._reap()

    def _template(self, engine: str, threads: int | None) -> _Template | None:
        self._reap()
        template = self._templates.get(engine)
        if template is not None and template.process.poll() is not None:
            del self._templates[engine]
            self._end(template)
            self._bury(engine, template)
            template = None
        if template is None and engine not in self._plain:
            template = self._templates[engine] = _Template(engine, threads)
        return template

    def _end(self, template: _Template) -> None:
        template.close()
        if not template.became_runner:
            self._bereft.add(template.process.pid)
            self._reap()

    def _reap(self) -> None:
        self._bereft = {group for group in self._bereft if not ForkedChild.reap_group(group)}

    def _bury(self, engine: str, template: _Template) -> None:
        if template.became_runner:  # which it said
            self._plain.add(engine)
        elif template.useful:
            self._tell(f"the template process of {engine} ended; starting another")
        else:
            self._tell(f"the template process of {engine} ended before it was of use; starting plainly")
            self._plain.add(engine)


def can_fork() -> bool:
    """Can this system have template processes?"""
    return sys.platform == "linux"


class _Template:
    """The front's end of one template process, which leads a process group of all that it forks."""

    def __init__(self, engine: str, threads: int | None) -> None:
        self._sock, theirs = socket.socketpair()
        self._forked: list[ForkedChild] = []  # those that are not known to have ended
        self._made = False
        try:
            self.process = start_module("openllm.runner.template", theirs, engine, threads, apart=True)
        except OSError:
            self._sock.close()
            raise
        self._sock.setblocking(False)

    @property
    def useful(self) -> bool:
        """Has it made a runner?"""
        return self._made or any(child.pid is not None for child in self._forked)

    @property
    def became_runner(self) -> bool:
        """Could it not be forked, so that it is the runner itself?"""
        return any(child.pid == self.process.pid for child in self._forked)

    def fork(self) -> Spawned | None:
        """Ask for a runner, which starts when the template is ready; None if the template does not listen, and has been
        ended."""
        ours, theirs = socket_pair()
        child = ForkedChild(self.process)  # before it can be born
        with theirs:
            try:
                socket.send_fds(self._sock, [b"f"], [theirs.fileno()])
            except OSError:
                child.kill()
                ours.close()
                return None
        self._made = self.useful
        self._forked = [*(each for each in self._forked if each.poll() is None), child]
        return Spawned(child, ours)

    def close(self) -> None:
        """End it, unless it is a runner."""
        self._sock.close()
        if not self.became_runner:
            self.process.kill()
            self.process.wait()
