"""``python -m openllm.runner.template FD PARENT ENGINE``: a process that has imported an engine and forks runners.

FD is an inherited stream socket to the front, PARENT the front's process id. The template imports what ENGINE needs,
holds no weights, and waits. Each byte that arrives brings a runner's socket with it; a fork of this process becomes
that runner, without the seconds that its imports would take.

A runner must be the front's child, not the template's: the kernel then ends it with the front, the front is told
how it ended, and it outlives the template. So it is forked by a process between them that ends at once, while the
front takes in what is orphaned below it. Linux only.
"""

from __future__ import annotations

import gc
import logging
import os
import socket
import sys

from openllm.engines.forkable import why_not_forkable
from openllm.engines.open import preload_all
from openllm.parent import die_with_parent, name_process
from openllm.runner.life import begin_process, live
from openllm.runner.loop import FrontGone, Line
from openllm.runner.wire import Born

_log = logging.getLogger("openllm.runner")


def main(argv: list[str]) -> int:
    fd, parent, engine = int(argv[0]), int(argv[1]), argv[2]
    begin_process()
    die_with_parent(parent)
    name_process("openllm-templat")
    front = socket.socket(fileno=fd)
    preload_all(engine)
    unfit = why_not_forkable()
    # What is frozen is left alone by later collections: a fork goes on sharing its memory.
    gc.freeze()
    while (sock := _next(front)) is not None:
        if unfit:
            _log.warning("this process cannot be forked, as %s: it becomes the runner itself", unfit)
        elif not _fork(parent, front):
            sock.close()
            continue
        front.close()
        return _be_born(sock)
    return 0


def _be_born(sock: socket.socket) -> int:
    """Become a runner, from its first word to its end; the exit status."""
    name_process("openllm-runner")
    try:
        Line(sock).send(Born(os.getpid()))
    except FrontGone:
        return 0
    return live(sock)


def _next(front: socket.socket) -> socket.socket | None:
    """The socket of the next runner; None when the front has gone. Blocks."""
    try:
        data, fds, _, _ = socket.recv_fds(front, 1, 1)
    except OSError:
        return None
    return socket.socket(fileno=fds[0]) if data and fds else None


def _fork(parent: int, front: socket.socket) -> bool:
    """Make a runner's process; True in it, False in this one. Blocks for some milliseconds."""
    go, ready = os.pipe()
    between = os.fork()
    if between == 0:
        _leave_runner()  # only the runner comes back from here
        os.close(ready)
        _await_parent(go, parent)
        return True
    os.close(go)
    os.waitpid(between, 0)
    with open(ready, "wb") as pipe:
        pipe.write(b"1")  # `between` has ended: the runner has its new parent
    return False


def _leave_runner() -> None:
    """In the process between: fork, and end. Returns in the new process only."""
    try:
        runner = os.fork()
    except OSError as error:
        _log.error("no runner could be forked: %s", error.strerror)
        os._exit(1)
    if runner:
        os._exit(0)


def _await_parent(go: int, parent: int) -> None:
    """Wait till this process is the front's child, and end with it from then on."""
    with open(go, "rb") as pipe:
        pipe.read(1)
    die_with_parent(parent)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
