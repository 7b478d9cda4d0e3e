"""The hub's settings from the environment: the same as its own client takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from openllm.weights.settings import PUBLIC_HUB, HubSettings

_ASK = """
import json
from huggingface_hub import constants, get_token
print(json.dumps([constants.HF_HUB_CACHE, constants.ENDPOINT, get_token()]))
"""


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"HF_HOME": "{tmp}/home"},
        {"HF_HOME": "~/hub-home", "HOME": "{tmp}"},
        {"XDG_CACHE_HOME": "{tmp}/xdg"},
        {"HF_HUB_CACHE": "{tmp}/cache", "HF_TOKEN": " hf_secret \n"},
        {"HF_ENDPOINT": "http://127.0.0.1:1/", "HF_TOKEN_PATH": "{tmp}/token"},
    ],
)
def test_as_the_client_has_them(tmp_path: Path, environ: dict[str, str]) -> None:
    (tmp_path / "token").write_text("hf_saved\n")
    given = {"HOME": str(tmp_path)} | {name: value.format(tmp=tmp_path) for name, value in environ.items()}
    path = {"PATH": os.environ["PATH"]}
    asked = subprocess.run(
        [sys.executable, "-c", _ASK], env=path | given, capture_output=True, text=True, check=True
    )
    settings = HubSettings.from_environment(given)
    assert [settings.cache, settings.endpoint, settings.token] == json.loads(asked.stdout)


def test_nothing_set() -> None:
    settings = HubSettings.from_environment({"HOME": "/nowhere"})
    assert (settings.endpoint, settings.token, settings.timeout) == (PUBLIC_HUB, None, 10.0)


def test_a_token_is_never_shown() -> None:
    settings = HubSettings.from_environment({"HOME": "/nowhere", "HF_TOKEN": "hf_secret"})
    assert settings.token == "hf_secret"
    assert "hf_secret" not in repr(settings) + str(settings) + f"{settings}"
