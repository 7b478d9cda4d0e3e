"""What the environment says. It is read here and nowhere below the command line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TextIO

if TYPE_CHECKING:
    from openllm.weights.settings import HubSettings

CACHE, MODELS, DEBUG = "OPENLLM_CACHE", "OPENLLM_MODELS", "OPENLLM_DEBUG"
DATA, STATE = "OPENLLM_DATA", "OPENLLM_STATE"
INHERITED = "OPENLLM_INHERITED"  # from a server that is replaced to the one that replaces it
API_KEY, SSL_PASSWORD = "OPENLLM_API_KEY", "OPENLLM_SSL_PASSWORD"
HOME = "http://127.0.0.1:3000"  # where a server listens unless told otherwise
_NO = ("", "0", "false", "no", "off")


class Settings(NamedTuple):
    """``cache`` is the folder of the weights store; ``recipes`` the folders of recipes, a user's own first;
    ``visible_gpus`` the text of CUDA_VISIBLE_DEVICES, None if unset."""

    cache: Path
    recipes: tuple[Path, ...]
    hub: HubSettings
    offline: bool
    debug: bool
    visible_gpus: str | None


def read_settings(
    environ: Mapping[str, str] | None = None, *, cache: Path | None = None, offline: bool = False
) -> Settings:
    """Settings from ``environ`` (the process' own unless given); ``cache`` and ``offline`` are options that win.

    Variables: OPENLLM_CACHE, OPENLLM_MODELS (folders), OPENLLM_DEBUG, CUDA_VISIBLE_DEVICES, and the
    hub's own (HF_TOKEN, HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE).
    """
    from openllm.recipes.registry import shipped_folder, user_folder
    from openllm.weights.settings import HubSettings
    from openllm.weights.store import default_root

    environ = os.environ if environ is None else environ
    own = environ.get(MODELS)
    root = cache or (Path(environ[CACHE]) if environ.get(CACHE) else default_root())
    return Settings(
        cache=root.expanduser().absolute(),
        recipes=(Path(own).expanduser() if own else user_folder(), shipped_folder()),
        hub=HubSettings.from_environment(environ),
        offline=offline or is_on(environ, "HF_HUB_OFFLINE"),
        debug=is_on(environ, DEBUG),
        visible_gpus=environ.get("CUDA_VISIBLE_DEVICES"),
    )


def data_folder(option: Path | None, environ: Mapping[str, str] | None = None) -> Path | None:
    """The folder of files and batches that a user insists on: the option, else OPENLLM_DATA, else None."""
    environ = os.environ if environ is None else environ
    chosen = option or (Path(environ[DATA]) if environ.get(DATA) else None)
    return None if chosen is None else chosen.expanduser().absolute()


def state_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Where the servers of this user are listed, and the logs of those in the background: OPENLLM_STATE, else a folder
    of the user's state."""
    environ = os.environ if environ is None else environ
    if environ.get(STATE):
        return Path(environ[STATE]).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_state_path("openllm", appauthor=False))


def take_inherited() -> str | None:
    """What a server that is replaced has left to this process. Taken out: child processes have no part in it."""
    return os.environ.pop(INHERITED, None)


def api_key(environ: Mapping[str, str] | None = None) -> str | None:
    """The key to show to a server. Only the environment holds it: a command line can be read by all users."""
    environ = os.environ if environ is None else environ
    return environ.get(API_KEY) or environ.get("OPENAI_API_KEY") or None


def server_key(environ: Mapping[str, str] | None = None) -> str | None:
    """The one key that a server takes besides those of its file. Other services' keys are none of ours."""
    return (os.environ if environ is None else environ).get(API_KEY) or None


def ssl_password(environ: Mapping[str, str] | None = None) -> str | None:
    """What opens the encrypted key of a certificate."""
    return (os.environ if environ is None else environ).get(SSL_PASSWORD) or None


def wants_color(stream: TextIO, environ: Mapping[str, str] | None = None) -> bool:
    """Is ``stream`` a terminal whose user wants color (https://no-color.org)?"""
    environ = os.environ if environ is None else environ
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def is_on(environ: Mapping[str, str], name: str) -> bool:
    """Is a switch set? Empty, 0, false, no and off are not."""
    return environ.get(name, "").strip().lower() not in _NO
