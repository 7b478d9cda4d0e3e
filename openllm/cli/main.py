"""The command line's entry: commands imported when they are needed, and the one place that catches errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from openllm import __version__
from openllm.cli import settings
from openllm.cli.say import say_error, say_failure
from openllm.errors import OpenLLMError

# A command's name and the module that has a function of that name.
_COMMANDS = {
    "start": "openllm.cli.start",
    "plan": "openllm.cli.plan",
    "models": "openllm.cli.models",
    "pull": "openllm.cli.pull",
    "chat": "openllm.cli.chat",
    "batch": "openllm.cli.batch",
    "keys": "openllm.cli.keys",
    "ps": "openllm.cli.ps",
    "stop": "openllm.cli.stop",
    "logs": "openllm.cli.logs",
    "restart": "openllm.cli.restart",
    "service": "openllm.cli.service",
}
_INTERRUPTED = 130


class Commands(TyperGroup):
    """Imports a command's module when the command is run or its help is shown, and only then."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _COMMANDS:
            return None
        function: Callable[..., None] = getattr(import_module(_COMMANDS[cmd_name]), cmd_name)
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(cmd_name, context_settings=getattr(function, "context_settings", None))(function)
        return typer.main.get_command(single)


# Help without rich's boxes: it is read by people and by tools, and costs a third of the time.
app = typer.Typer(
    cls=Commands,
    name="openllm",
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"openllm {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; goes with any command.")] = False,
) -> None:
    """Serve any open language model behind an OpenAI-compatible API."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0, the error's own code, 2 for a wrong option, 130 for ctrl-C."""
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: Sequence[str]) -> int:
    """Run one command; returns the exit code. Every error that a user may meet becomes text here."""
    args = _take_debug(list(argv)) or ["--help"]
    debug = settings.is_on(os.environ, settings.DEBUG)
    try:
        code = typer.main.get_command(app).main(args, prog_name="openllm", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except OpenLLMError as error:
        return _failed(error, debug)
    except TyperException as error:
        say_error(error.format_message(), _help_hint(error))
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader of our output is gone, as in `openllm models | head`: nothing is left to be said, and
        # the interpreter must not try to flush once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            raise
        say_error(f"{type(error).__name__}: {error}", "This should not happen. Run again with --debug.")
        return 1


def _failed(error: OpenLLMError, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exception(error)
    say_failure(error)
    return error.exit_code


def _take_debug(args: list[str]) -> list[str]:
    """Take ``--debug`` out, wherever it stands: it belongs to no command. Child processes inherit it."""
    end = args.index("--") if "--" in args else len(args)
    if "--debug" in args[:end]:
        os.environ[settings.DEBUG] = "1"
    return [arg for arg in args[:end] if arg != "--debug"] + args[end:]


def _help_hint(error: TyperException) -> str:
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", "openllm")
    return f"Try: {path} --help"


if __name__ == "__main__":
    main()
