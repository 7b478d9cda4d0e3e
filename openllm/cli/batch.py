"""``openllm batch``: have a running server answer a file of requests."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openllm.cli.say import note
from openllm.cli.settings import HOME, api_key
from openllm.errors import OpenLLMError, RequestError, UsageError

if TYPE_CHECKING:
    from openllm.cli.batch_client import BatchClient

_ENDED = ("completed", "failed", "expired", "cancelled")
_SHORTEST_POLL, _LONGEST_POLL = 0.2, 5.0
_MOST_SHOWN = 10


def batch(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT.jsonl",
            help="Requests as OpenAI's batches have them, or the id of a batch to wait for.",
            show_default=False,
        ),
    ],
    output: Annotated[Path | None, typer.Option(help="File for the answers; stdout unless given.")] = None,
    errors: Annotated[Path | None, typer.Option(help="File for the requests that got no answer.")] = None,
    url: Annotated[str, typer.Option(help="The server's address.")] = HOME,
    window: Annotated[str, typer.Option(help="Time to answer all of it, e.g. 30m, 24h, 7d.")] = "24h",
) -> None:
    """Answer a file of requests on a running server, behind its live traffic."""
    from openllm.cli.batch_client import BatchClient

    client = BatchClient(url, api_key())
    path = Path(source)
    goes_on = source.startswith("batch_") and not path.exists()
    made = client.batch(source) if goes_on else _create(client, path, window)
    try:
        ended = _follow(client, made)
    except KeyboardInterrupt:
        note(f"{made['id']} goes on; wait for it again with: openllm batch {made['id']}")
        raise
    _download(client, ended, "output_file_id", output)
    if errors is not None:
        _download(client, ended, "error_file_id", errors)
    _judge(ended, errors)


def _create(client: BatchClient, path: Path, window: str) -> dict[str, Any]:
    from openllm.cli.batch_client import first_url

    try:
        endpoint = first_url(path)
        name = client.upload(path)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}.", hint="Give a JSON Lines file."
        ) from error
    return client.create(name, endpoint, window)


def _follow(client: BatchClient, made: dict[str, Any]) -> dict[str, Any]:
    """Say how far it is until it has ended."""
    shown = None
    pause = _SHORTEST_POLL
    while True:
        counts = made["request_counts"]
        done = counts["completed"] + counts["failed"]
        tenth = 10 * done // (counts["total"] or 1)
        if shown != (made["status"], tenth):
            shown = made["status"], tenth
            pause = _SHORTEST_POLL
            failed = f", {counts['failed']} failed" if counts["failed"] else ""
            note(f"{made['id']}: {made['status']}, {done} of {counts['total']}{failed}")
        if made["status"] in _ENDED:
            return made
        time.sleep(pause)
        pause = min(_LONGEST_POLL, pause * 1.5)
        made = client.batch(made["id"])


def _download(client: BatchClient, ended: dict[str, Any], field: str, target: Path | None) -> None:
    """Write a file of the batch to ``target``, or to stdout; without contents an empty one."""
    pieces: Iterator[bytes] = client.content(ended[field]) if ended[field] else iter(())
    if target is None:
        sys.stdout.flush()
        sys.stdout.buffer.writelines(pieces)
        sys.stdout.buffer.flush()
        return
    part = target.with_name(f"{target.name}.part")
    try:
        with part.open("wb") as file:
            file.writelines(pieces)
        part.replace(target)
    except OSError as error:
        raise UsageError(
            f"{target} cannot be written: {error.strerror}.",
            hint=f"Fetch it again with: openllm batch {ended['id']} --output FILE",
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _judge(ended: dict[str, Any], errors: Path | None) -> None:
    """Raise ``OpenLLMError`` unless every request has its answer."""
    problems = (ended["errors"] or {}).get("data", [])
    for problem in problems[:_MOST_SHOWN]:
        where = f"line {problem['line']}: " if problem["line"] else ""
        note(f"{where}{problem['message']}")
    if problems:
        raise RequestError("The file was refused.", hint="Correct the lines above and send it again.")
    failed = ended["request_counts"]["failed"]
    if failed or ended["status"] != "completed":
        raise OpenLLMError(
            f"The batch is {ended['status']}; {failed} requests have no good answer.",
            hint=f"See {errors}." if errors else f"Read why with: openllm batch {ended['id']} --errors FILE",
        )
