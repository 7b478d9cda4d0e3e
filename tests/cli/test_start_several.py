"""``openllm start`` with several models: what cannot be meant is said, and what would work."""

from __future__ import annotations

from pathlib import Path

import pytest

from openllm.cli.options import PlanOptions
from openllm.cli.settings import read_settings
from openllm.cli.several import plan_named
from tests.cli.conftest import Run
from tests.serving import MODEL


@pytest.fixture
def files(smollm2_gguf: Path, tmp_path: Path) -> list[str]:
    """One model under three names."""
    paths = [tmp_path / f"{name}.gguf" for name in "abc"]
    for path in paths:
        path.symlink_to(smollm2_gguf)
    return list(map(str, paths))


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("--quantize", "int8"), "--quantize is about one model", "llama2@gptq"),
        (("--variant", "q4_1"), "--variant is about one model", "llama2@gptq"),
        (("--adapter", "x=./x"), "--adapter is about one model", "llama2@gptq"),
        (("--pin", "zz"), "no such model", "Name one"),
        (("--all",), "--all is given", "Leave one"),
        (("--memory", "50MB"), "can never be loaded", "--memory"),
        (("--memory", "100MB", "--pin", "a"), "beside the pinned", "pin fewer"),
        (("--idle-timeout", "soon"), "not a duration", "5m"),
    ],
)
def test_what_cannot_be_meant(
    openllm: Run, files: list[str], arguments: tuple[str, ...], message: str, hint: str
) -> None:
    done = openllm("start", *files, "--backend", "echo", "--port", "0", *arguments)
    assert done.returncode in (2, 4)
    assert message in done.stderr
    assert hint in done.stderr
    assert "Traceback" not in done.stderr
    dry = openllm("start", *files, "--backend", "echo", "--dry-run", *arguments)
    assert (dry.returncode, dry.stderr) == (done.returncode, done.stderr)


def test_no_model_at_all(openllm: Run) -> None:
    done = openllm("start")
    assert done.returncode == 2
    assert "No model is named" in done.stderr
    for option in (("--pin", MODEL), ("--patience", "5s")):
        done = openllm("start", MODEL, *option)
        assert done.returncode == 2
        assert f"{option[0]} is for several models" in done.stderr


def test_nothing_is_here(openllm: Run) -> None:
    done = openllm("start", "--all", "--backend", "echo")
    assert done.returncode == 2
    assert "openllm pull" in done.stderr


def test_each_plan_is_printed(openllm: Run, files: list[str]) -> None:
    done = openllm("start", *files, files[0], "--backend", "echo", "--dry-run")
    assert done.returncode == 0
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("model ")] == [
        "a",
        "b",
        "c",
    ]


def test_two_files_of_one_name_are_two_models(files: list[str], tmp_path: Path) -> None:
    other = tmp_path / "other" / "a.gguf"
    other.parent.mkdir()
    other.symlink_to(Path(files[0]).resolve())
    planned = plan_named([files[0], str(other)], PlanOptions(backend="echo"), read_settings(), 10**9)
    assert [each.names for each in planned] == [("a", files[0]), (str(other),)]
