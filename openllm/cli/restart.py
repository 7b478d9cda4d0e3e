"""``openllm restart``: replace a running server without a pause."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from openllm.cli.say import note
from openllm.cli.servers import ServerName, choose, register
from openllm.errors import RunnerFailed

if TYPE_CHECKING:
    from openllm.servers.record import Record, Register

_LOOK_SECONDS = 0.05


def restart(server: ServerName = None) -> None:
    """Start a server anew, with its command line, and no request refused: the old process answers until the new one's
    engine is ready. Both engines are in memory for that time. Returns when the new one has taken over."""
    servers = register()
    old = choose(server, servers.all())
    written = _log_size(old)
    note(f"{old.name}: the new server loads; process {old.pid} answers until then")
    os.kill(old.pid, signal.SIGUSR2)
    new = _successor(servers, old, written)
    note(f"{new.name}: process {new.pid} has taken over on {new.address}")


def _successor(servers: Register, old: Record, written: int) -> Record:
    while True:
        running = servers.all()
        for record in running:
            if record.replaces == old.pid:
                return record
        still = next((record for record in running if record.pid == old.pid), None)
        if still is None:
            raise RunnerFailed(f"{old.name} ended during the restart.", hint=f"See: openllm logs {old.port}")
        if still.refusals > old.refusals:
            raise RunnerFailed(
                f"{old.name} was not restarted, and goes on: {still.refusal}{_reason(old, written)}.",
                hint=f"See: openllm logs {old.port}" if old.log else "See what it writes to stderr.",
            )
        time.sleep(_LOOK_SECONDS)


def _log_size(record: Record) -> int:
    return Path(record.log).stat().st_size if record.log and Path(record.log).exists() else 0


def _reason(record: Record, written: int) -> str:
    """The error that the new server wrote to the log that both have."""
    if not record.log or not Path(record.log).exists():
        return ""
    with Path(record.log).open("rb") as file:
        file.seek(written)
        lines = file.read().decode(errors="replace").splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return f": {errors[-1].rstrip('.')}" if errors else ""
