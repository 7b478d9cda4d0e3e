"""``openllm service``: a server that systemd starts, watches and restarts."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openllm.cli.options import parse_size
from openllm.cli.say import note
from openllm.errors import MachineError, UsageError

if TYPE_CHECKING:
    from openllm.servers.unit import Unit

_UNIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LOWEST_FREE_PORT = 1024
# Options that name files which only root may read, and what they are called as systemd's credentials.
_SECRETS = {"--api-key-file": "keys", "--ssl-certfile": "certificate", "--ssl-keyfile": "key"}
_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
_SYSTEM_STATE, _SYSTEM_CACHE = "/var/lib/openllm", "/var/cache/openllm"


class Action(StrEnum):
    """What to do with the service."""

    INSTALL = "install"
    UNINSTALL = "uninstall"
    SHOW = "show"


def service(
    action: Annotated[Action, typer.Argument(help="install, uninstall or show.", show_default=False)],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL [OPTIONS OF START]...]",
            help="install: as for `openllm start`.",
            show_default=False,
        ),
    ] = None,
    unit: Annotated[str, typer.Option(help="Name of the service.")] = "openllm",
    system: Annotated[
        bool, typer.Option("--system", help="A service of the machine, with a user of its own; needs root.")
    ] = False,
    memory_max: Annotated[
        int | None,
        typer.Option(parser=parse_size, metavar="SIZE", help="install: most memory of the whole service."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="install: print the unit, write nothing.")
    ] = False,
) -> None:
    """Have systemd run a server: install, show or uninstall its unit."""
    if not _UNIT_NAME.fullmatch(unit):
        raise UsageError(
            f"--unit {unit!r} is no name.", hint="Use letters, digits and . _ - only.", param="unit"
        )
    path = _folder(system) / f"{unit}.service"
    if action is not Action.INSTALL:
        if arguments or dry_run or memory_max is not None:
            raise UsageError(
                f"service {action.value} takes no model and no options of it.", hint="Use --unit."
            )
        _show(path) if action is Action.SHOW else _uninstall(path, unit, system)
        return
    if not arguments:
        raise UsageError("service install needs a model.", hint="Write: openllm service install MODEL")
    made = _unit(unit, arguments, _parsed(arguments), system, memory_max)
    if dry_run:
        print(made.text(), end="")
        return
    _check_systemd()
    _install(path, unit, made)


# `main` makes a command of it that leaves start's options to the arguments.
service.context_settings = {"ignore_unknown_options": True}  # type: ignore[attr-defined]


def _parsed(arguments: list[str]) -> dict[str, Any]:
    """The options of ``start``, checked as it would. Raises as its command line does."""
    from openllm.cli.start import start

    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command("start")(start)
    command = typer.main.get_command(single)
    parsed: dict[str, Any] = command.make_context("openllm start", list(arguments)).params
    for option, why in (
        ("detach", "A service is in the background already"),
        ("dry_run", "A service serves"),
        ("log_file", "A service writes to the journal"),
    ):
        if parsed.get(option):
            name = option.replace("_", "-")
            raise UsageError(f"{why}.", hint=f"Leave --{name} out.", param=option)
    return parsed


def _unit(
    name: str, arguments: list[str], parsed: dict[str, Any], system: bool, memory_max: int | None
) -> Unit:
    from openllm.cli.settings import data_folder, read_settings, state_folder
    from openllm.servers.unit import Unit

    credentials: tuple[tuple[str, str], ...] = ()
    folder: str | None = os.getcwd()
    if system:
        _check_readable(Path(sys.prefix))
        arguments, credentials = _with_credentials(arguments)
        folder = None if _in_a_home(Path.cwd()) else folder
        environment = {"OPENLLM_CACHE": _SYSTEM_CACHE, "OPENLLM_STATE": _SYSTEM_STATE, "HOME": _SYSTEM_STATE}
        environment["OPENLLM_DATA"] = f"{_SYSTEM_STATE}/data"
        writable = [str(parsed[option]) for option in ("cache_dir", "data_dir") if parsed.get(option)]
    else:
        from openllm.batches.storage import default_root

        settings = read_settings(cache=parsed.get("cache_dir"))
        data = data_folder(parsed.get("data_dir")) or default_root()
        environment = {"OPENLLM_CACHE": str(settings.cache), "OPENLLM_STATE": str(state_folder())}
        writable = [str(settings.cache), str(state_folder()), str(data), settings.hub.cache]
    low = 0 < parsed["port"] < _LOWEST_FREE_PORT
    return Unit(
        description=f"OpenLLM, serving {_models(parsed)}",
        command=(sys.executable, "-m", "openllm", "start", *arguments),
        environment=tuple(environment.items()),
        environment_file=str(_environment_file(name, system)),
        drain_seconds=parsed["drain_timeout"],
        system=system,
        folder=folder,
        writable=tuple(writable),
        credentials=credentials,
        memory_max=memory_max,
        devices=shutil.which("nvidia-smi") is not None,
        capability="CAP_NET_BIND_SERVICE" if low else "",
    )


def _models(parsed: dict[str, Any]) -> str:
    models = parsed.get("models") or parsed.get("model") or ()
    return models if isinstance(models, str) else ", ".join(models) or "all models that are here"


def _with_credentials(arguments: list[str]) -> tuple[list[str], tuple[tuple[str, str], ...]]:
    """The arguments with secret files as systemd hands them to a service that could not read them itself."""
    changed, credentials = [], []
    words = iter(arguments)
    for word in words:
        option, equals, value = word.partition("=")
        name = _SECRETS.get(option)
        if name is None:
            changed.append(word)
            continue
        path = Path(value if equals else next(words)).expanduser().absolute()
        credentials.append((name, str(path)))
        changed += [option, f"%d/{name}"]
    return changed, tuple(credentials)


def _check_readable(prefix: Path) -> None:
    if _in_a_home(prefix):
        raise MachineError(
            f"OpenLLM is installed in {prefix}, which a service of the machine cannot read.",
            hint="Install it into a folder for all, such as /opt/openllm; or leave --system out.",
        )


def _in_a_home(path: Path) -> bool:
    return any(path.is_relative_to(home) for home in _HOMES)


def _folder(system: bool) -> Path:
    from platformdirs import user_config_path

    return Path("/etc/systemd/system") if system else user_config_path("systemd") / "user"


def _environment_file(name: str, system: bool) -> Path:
    from platformdirs import user_config_path

    return (Path("/etc/openllm") if system else user_config_path("openllm")) / f"{name}.env"


def _check_systemd() -> None:
    if shutil.which("systemctl") is None:
        raise MachineError(
            "This machine has no systemd.", hint="Serve in the background with: openllm start MODEL --detach"
        )


def _install(path: Path, name: str, unit: Unit) -> None:
    environment = Path(unit.environment_file)
    try:
        for folder in (*map(Path, unit.writable), path.parent, environment.parent):
            folder.mkdir(parents=True, exist_ok=True)  # systemd does not bind what is not there
        path.write_text(unit.text(), encoding="utf-8")
        if not environment.exists():
            with open(os.open(environment, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write("# Read by the service; for its owner only.\n# OPENLLM_API_KEY=\n# HF_TOKEN=\n")
    except OSError as error:
        hint = "Run it with sudo, or leave --system out." if unit.system else "See who owns the folder."
        raise MachineError(f"{error.filename or path}: {error.strerror}.", hint=hint) from error
    control = "systemctl" if unit.system else "systemctl --user"
    note(f"written: {path}")
    note(f"secrets (OPENLLM_API_KEY, HF_TOKEN) go into {environment}")
    if unit.credentials:
        note("keys and certificates are read when the service starts: restart it when they change")
    if not Path("/run/systemd/system").exists():
        note("systemd does not run here now; the unit is for when it does")
    note("next:")
    print(f"{control} daemon-reload")
    print(f"{control} enable --now {name}")
    if not unit.system:
        print(f"loginctl enable-linger {getpass.getuser()}")


def _show(path: Path) -> None:
    try:
        print(path.read_text(encoding="utf-8"), end="")
    except OSError as error:
        raise _missing(path) from error


def _uninstall(path: Path, name: str, system: bool) -> None:
    try:
        path.unlink()
        for link in path.parent.glob(f"*.wants/{path.name}"):
            link.unlink()
    except FileNotFoundError as error:
        raise _missing(path) from error
    except OSError as error:
        raise MachineError(f"{path}: {error.strerror}.", hint="Run it with sudo.") from error
    control = "systemctl" if system else "systemctl --user"
    note(f"removed: {path}; {_environment_file(name, system)} is left")
    note("next:")
    print(f"{control} stop {name}")
    print(f"{control} daemon-reload")


def _missing(path: Path) -> UsageError:
    return UsageError(
        f"{path} is not there.", hint="Install it with: openllm service install MODEL", param="unit"
    )
