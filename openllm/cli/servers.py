"""The servers of this user on this machine, and which of them a word means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from openllm.cli.operate import servers_folder
from openllm.errors import NoSuchServer

if TYPE_CHECKING:
    from openllm.servers.record import Record, Register

ServerName = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME|PORT]",
        help="The server's name, a model of it, or its port; may be left out if only one runs.",
        show_default=False,
    ),
]


def register() -> Register:
    """Where they are listed."""
    from openllm.servers.record import Register

    return Register(servers_folder())


def choose(wanted: str | None, running: list[Record]) -> Record:
    """The one that is meant. Raises ``NoSuchServer`` if none is, or more than one."""
    found = running if wanted is None else [each for each in running if _is_meant(each, wanted)]
    if len(found) == 1:
        return found[0]
    if not running:
        raise NoSuchServer("No server of yours runs here.", hint="Start one with: openllm start MODEL -d")
    if not found:
        raise NoSuchServer(f"No server is called {wanted!r}.", hint=f"These run: {_listed(running)}.")
    which = "Several servers run" if wanted is None else f"Several servers are called {wanted!r}"
    raise NoSuchServer(f"{which}.", hint=f"Say which by its port: {_listed(found)}.")


def _is_meant(record: Record, wanted: str) -> bool:
    return wanted in (record.name, *record.models, str(record.port), record.address)


def _listed(records: list[Record]) -> str:
    return ", ".join(f"{each.port} ({each.name})" for each in records)
