"""Runs a script of the tools' environment and follows what it tells."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec

from openllm.errors import DoesNotFit, WeightsError

SCRIPTS = Path(__file__).parents[1] / "engines" / "quantizers"
_KILLED = -9


class Listener(Protocol):
    """Is told how the work goes on."""

    def stage(self, what: str) -> None:
        """Something else begins."""

    def layers(self, done: int, total: int) -> None:
        """So many layers are finished."""


class Event(msgspec.Struct, frozen=True):
    """One line of a script; one of these is set."""

    stage: str = ""
    done: int = 0
    total: int = 0
    facts: dict[str, Any] | None = None
    failed: str = ""


def run_script(
    python: Path, script: str, job: Mapping[str, Any], listener: Listener, *, log: Path
) -> dict[str, Any]:
    """Run ``script`` with ``job``; the facts that it ends with. Blocks for as long as it takes.

    What the tools print goes to the file ``log``. Raises ``DoesNotFit`` if the kernel killed it, which it does when
    memory runs out, and ``WeightsError`` with the tool's own words for any other failure.
    """
    environ = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    # -E and -s: folders of packages that were meant for us would hide the tools' own.
    command = [str(python), "-E", "-s", str(SCRIPTS / f"{script}.py")]
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environ,
            cwd=log.parent,  # tools leave files where they run
        ) as process,
    ):
        try:
            facts, failed = _follow(process, msgspec.json.encode(job), listener)
        except BaseException:
            process.kill()
            raise
    code = process.returncode
    if facts is not None and code == 0:
        return facts
    if code == _KILLED:
        raise DoesNotFit(
            "The quantization tool was killed, most likely because memory ran out.",
            hint="Free memory, or use fewer samples: --samples 32. Run again: finished layers are kept where the "
            "tool can.",
        )
    raise WeightsError(
        f"The quantization tool failed: {failed or f'exit code {code}'}",
        hint=f"What it printed is in {log}.",
        param="mode",
    )


def _follow(
    process: subprocess.Popen[bytes], job: bytes, listener: Listener
) -> tuple[dict[str, Any] | None, str]:
    assert process.stdin is not None
    assert process.stdout is not None
    writer = threading.Thread(target=_write, args=(process, job), daemon=True)
    writer.start()
    facts, failed = None, ""
    for line in process.stdout:
        event = msgspec.json.decode(line, type=Event)
        if event.stage:
            listener.stage(event.stage)
        elif event.total:
            listener.layers(event.done, event.total)
        elif event.failed:
            failed = event.failed
        elif event.facts is not None:
            facts = event.facts
    return facts, failed


def _write(process: subprocess.Popen[bytes], job: bytes) -> None:
    """In a thread: a job of many samples fills the pipe before the script has read any of it."""
    assert process.stdin is not None
    try:
        process.stdin.write(job)
        process.stdin.close()
    except BrokenPipeError:  # it has failed: its end tells more
        pass
