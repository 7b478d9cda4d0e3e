"""``openllm keys``: the keys of a server."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from openllm.cli.options import Json
from openllm.cli.say import note
from openllm.cli.table import print_table
from openllm.errors import UsageError


class Action(StrEnum):
    """What to do with the keys."""

    NEW = "new"
    LIST = "list"
    REMOVE = "remove"


def keys(
    action: Annotated[Action, typer.Argument(help="new, list or remove.", show_default=False)],
    name: Annotated[str | None, typer.Argument(help="Whose key it is.", show_default=False)] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            envvar="OPENLLM_API_KEY_FILE", help="The file; by default one in the user's configuration."
        ),
    ] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="new: most requests at once.")] = None,
    requests: Annotated[int | None, typer.Option(min=1, help="new: most requests a minute.")] = None,
    tokens: Annotated[
        int | None, typer.Option(min=1, help="new: most tokens a minute, prompts and answers.")
    ] = None,
    json: Json = False,
) -> None:
    """Make, list and remove the API keys that `openllm start --api-key-file` takes."""
    path = file or _default_file()
    if action is not Action.NEW and (concurrency or requests or tokens):
        raise UsageError(
            "Limits are given to a new key.", hint="Write: openllm keys new NAME --tokens 100000"
        )
    if (name is None) is not (action is Action.LIST):
        wanted = "takes no name" if action is Action.LIST else "needs a name"
        raise UsageError(f"keys {action.value} {wanted}.", hint="Try: openllm keys --help")
    if name is None:
        _list(path, json)
    elif action is Action.NEW:
        _new(path, name, concurrency, requests, tokens)
    else:
        _remove(path, name)


def _default_file() -> Path:
    from platformdirs import user_config_path

    return user_config_path("openllm") / "keys.toml"


def _new(path: Path, name: str, concurrency: int | None, requests: int | None, tokens: int | None) -> None:
    from openllm.api.key_file import Entry, KeyFile, digest, new_key

    key = new_key()
    KeyFile(path).add(Entry(name, digest(key), concurrency, requests, tokens))
    note(f"{name}: added to {path}. This is the only time that the key is shown:")
    print(key)


def _list(path: Path, as_json: bool) -> None:
    import msgspec

    from openllm.api.key_file import KeyFile

    entries = KeyFile(path).read()
    if as_json:
        print(msgspec.json.encode(entries).decode())
        return
    rows = [
        (entry.name, *(str(limit or "-") for limit in msgspec.structs.astuple(entry.limits)), entry.sha256)
        for entry in entries
    ]
    print_table(("name", "concurrency", "requests/min", "tokens/min", "sha256"), rows)


def _remove(path: Path, name: str) -> None:
    from openllm.api.key_file import KeyFile

    if not KeyFile(path).remove(name):
        raise UsageError(f"{path} has no key {name!r}.", hint="See: openllm keys list", param="name")
    note(f"{name}: removed from {path}; running servers refuse it within a second")
