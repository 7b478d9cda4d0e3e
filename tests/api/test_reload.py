"""SIGHUP: keys and recipes are read again; what is wrong with a file changes nothing and is one line of the log."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from openllm.recipes.registry import shipped_folder
from tests.serving import Served, serving

KEY = "sk-openllm-reload"
TEMPLATE = "{% for m in messages %}(MARK) {{ m.content }}{% endfor %}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of recipes of the user's own: SmolLM2's, as it is shipped."""
    made = tmp_path_factory.mktemp("recipes")
    (made / "smollm2.yaml").write_text((shipped_folder() / "smollm2.yaml").read_text())
    return made


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    environ = {"OPENLLM_MODELS": str(folder)}
    with serving("smollm2", "--backend", "echo", environ=environ) as server:
        server.until_ready()
        yield server


def reload(served: Served) -> str:
    """The news of a reload: all lines that it writes."""
    before = len(served.lines)
    served.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 20
    while not any(line.startswith("reload: ") for line in served.lines[before:]):
        assert time.monotonic() < deadline, served.log
        time.sleep(0.02)
    return "".join(served.lines[before:])


def prompt(served: Served) -> str:
    """What the engine got, which it says again."""
    answer = served.client.chat.completions.create(
        model="smollm2", messages=[{"role": "user", "content": "Hello"}], max_tokens=40
    )
    return str(answer.choices[0].message.content)


def with_template(text: str, template: str) -> str:
    lines = re.sub(r"(?m)^chat:\n", f"chat:\n  template: '{template}'\n", text)
    return lines if lines != text else f"{text}chat:\n  template: '{template}'\n"


def test_a_recipe_that_is_as_it_was(served: Served) -> None:
    assert reload(served) == "reload: smollm2:135m-instruct: its recipe is as it was\n"


def test_a_template_is_taken_over_and_a_broken_file_is_not(served: Served, folder: Path) -> None:
    path = folder / "smollm2.yaml"
    shipped = path.read_text()
    assert "MARK" not in prompt(served)
    try:
        path.write_text(with_template(shipped, TEMPLATE))
        assert "talked to" in reload(served)
        assert "(MARK) Hello" in prompt(served)
        path.write_text("family: [")
        said = reload(served)
        assert said.startswith("reload: nothing changed: ")
        assert "smollm2.yaml:" in said
        assert said.count("\n") == 1
        assert "(MARK) Hello" in prompt(served)
        path.write_text(with_template(shipped, "{% for m in messages %}"))
        assert "nothing changed" in reload(served)
        assert "(MARK) Hello" in prompt(served)
    finally:
        path.write_text(shipped)
    assert "talked to" in reload(served)
    assert "MARK" not in prompt(served)


def test_keys_are_read_at_once_and_a_broken_file_leaves_them(tmp_path: Path) -> None:
    from openllm.api.key_file import Entry, KeyFile, digest

    path = tmp_path / "keys.toml"
    KeyFile(path).add(Entry("alice", digest(KEY)))
    with serving("smollm2", "--backend", "echo", "--api-key-file", str(path)) as server:
        headers = {"Authorization": f"Bearer {KEY}"}
        assert httpx.get(f"{server.url}/v1/models", headers=headers).status_code == 200
        server.until_ready()
        path.write_text("[[keys]\n")
        said = reload(server)
        assert "nothing changed" in said
        assert "keys.toml:1" in said
        assert httpx.get(f"{server.url}/v1/models", headers=headers).status_code == 200
        path.write_text("")
        assert "reload: 0 keys" in reload(server)
        assert httpx.get(f"{server.url}/v1/models", headers=headers).status_code == 401
