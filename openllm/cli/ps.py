"""``openllm ps``: the servers that run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from openllm.cli.options import Json
from openllm.cli.servers import register
from openllm.cli.table import print_table

if TYPE_CHECKING:
    from openllm.servers.record import Record

_ANSWER_SECONDS = 2.0
_MIB = 1024**2


def ps(json: Json = False) -> None:
    """List the servers of this user on this machine: state, memory (front and engine), address."""
    from concurrent.futures import ThreadPoolExecutor

    running = register().all()
    with ThreadPoolExecutor(max(1, len(running))) as pool:
        rows = list(pool.map(_look, running))
    if json:
        import msgspec

        print(msgspec.json.encode(rows).decode())
        return
    print_table(
        ("name", "models", "address", "pid", "state", "up", "memory"),
        [
            (
                row["name"],
                ", ".join(row["models"]),
                row["address"],
                str(row["pid"]),
                row["state"] if row["doing"] == "serving" else f"{row['state']}: {row['doing']}",
                _duration(row["up_seconds"]),
                "-" if row["memory_bytes"] is None else f"{row['memory_bytes'] / _MIB:.0f} MiB",
            )
            for row in rows
        ],
    )


def _look(record: Record) -> dict[str, Any]:
    state, doing = _state(record)
    return {
        "name": record.name,
        "models": record.models,
        "address": record.address,
        "pid": record.pid,
        "state": state,
        "doing": doing,
        "started": record.started,
        "up_seconds": round(max(0.0, time.time() - record.started), 1),
        "memory_bytes": _memory(record.pid),
        "log": record.log,
    }


def _state(record: Record) -> tuple[str, str]:
    """(state, what it is doing), as the server itself says."""
    from http.client import HTTPConnection, HTTPException, HTTPSConnection
    from json import loads
    from ssl import CERT_NONE, create_default_context
    from urllib.parse import urlsplit

    parts = urlsplit(record.address)
    assert parts.hostname is not None
    connection: HTTPConnection
    if parts.scheme == "https":
        # Nothing secret is sent, and a certificate seldom has the name of the address that a server listens on.
        context = create_default_context()
        context.check_hostname, context.verify_mode = False, CERT_NONE
        connection = HTTPSConnection(parts.hostname, parts.port, timeout=_ANSWER_SECONDS, context=context)
    else:
        connection = HTTPConnection(parts.hostname, parts.port, timeout=_ANSWER_SECONDS)
    try:
        connection.request("GET", "/readyz")
        body = loads(connection.getresponse().read())
        return str(body["state"]), str(body["doing"])
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return "silent", f"no answer within {_ANSWER_SECONDS:.0f} s"
    finally:
        connection.close()


def _memory(pid: int) -> int | None:
    """Bytes that the front and what it started hold; pages that they share count once where the system tells."""
    import psutil

    try:
        front = psutil.Process(pid)
        return sum(_held(process) for process in (front, *front.children(recursive=True)))
    except psutil.Error:
        return None


def _held(process: Any) -> int:
    import psutil

    try:
        return int(process.memory_full_info().pss)
    except (AttributeError, psutil.AccessDenied):
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours}h"
    if hours:
        return f"{hours}h {minutes}m"
    return f"{minutes}m {rest}s" if minutes else f"{rest}s"
