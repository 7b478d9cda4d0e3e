"""``python -m openllm.runner FD PARENT ENGINE``: one engine in a process of its own.

FD is an inherited stream socket to the front, PARENT the front's process id, ENGINE the engine that will
probably be asked for, whose package is imported while the front is still deciding.
"""

from __future__ import annotations

import socket
import sys

from openllm.engines.open import preload
from openllm.parent import die_with_parent, name_process
from openllm.runner.life import begin_process, live


def main(argv: list[str]) -> int:
    fd, parent, engine = int(argv[0]), int(argv[1]), argv[2]
    begin_process()
    die_with_parent(parent)
    name_process("openllm-runner")
    sock = socket.socket(fileno=fd)
    preload(engine)
    return live(sock)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
