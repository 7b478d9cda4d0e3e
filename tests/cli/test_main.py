"""The front door: help, version, errors and exit codes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from openllm import __version__
from openllm.cli import main
from tests.cli.conftest import Run

ENGINES = frozenset({"torch", "transformers", "vllm", "openvino", "openvino_genai"})
HEAVY = ENGINES | {"fastapi", "uvicorn", "huggingface_hub", "tokenizers", "numpy", "rich", "msgspec"}


def test_help_lists_commands(openllm: Run) -> None:
    done = openllm("--help")
    assert done.returncode == 0
    for command in ("start", "plan", "models", "pull", "chat"):
        assert f"\n  {command} " in done.stdout
    assert openllm().stdout == done.stdout == openllm("-h").stdout


@pytest.mark.parametrize(
    ("args", "unwanted"),
    [
        (["--help"], HEAVY | {"pydantic"}),
        (["--version"], HEAVY | {"pydantic"}),
        (["start", "--help"], HEAVY),
        (["plan", "--help"], HEAVY),
        (["plan", "smollm2"], ENGINES | {"fastapi", "uvicorn", "huggingface_hub", "tokenizers", "numpy"}),
    ],
)
def test_nothing_heavy_is_imported(args: list[str], unwanted: set[str]) -> None:
    code = (
        "import sys; from openllm.cli.main import run; code = run(sys.argv[2:]);"
        "print(code, sorted(set(sys.argv[1].split(',')) & set(sys.modules)), file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, ",".join(unwanted), *args]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == "0 []\n"


def test_version(openllm: Run) -> None:
    assert openllm("--version").stdout == f"openllm {__version__}\n"


@pytest.mark.parametrize(
    ("args", "said", "hint"),
    [
        (["plna"], "No such command 'plna'", "Try: openllm --help"),
        (["plan"], "Missing argument 'MODEL'", "Try: openllm plan --help"),
        (["plan", "smollm2", "--bakend", "vllm"], "No such option: --bakend", "Try: openllm plan --help"),
        (
            ["plan", "smollm2", "--threads", "two"],
            "Invalid value for '--threads'",
            "Try: openllm plan --help",
        ),
        (["plan", "smollm2", "--kv-cache", "2 bananas"], "'2 bananas' is not a size.", "2GiB"),
        (["plan", "smollm2", "--machine", "h101"], "There is no machine 'h101'.", "rtx4090"),
        (["plan", "smollm2", "--machine", "none.json"], "none.json cannot be read", "JSON file"),
        (["chat", "ftp://host"], "is not the address of a server", "http://host:3000"),
        (["chat", "http://h", "--url", "http://h"], "Two addresses", "--url"),
    ],
)
def test_wrong_usage(command: Run, args: list[str], said: str, hint: str) -> None:
    done = command(*args)
    lines = done.stderr.splitlines()
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(lines) == 2, done.stderr
    assert lines[0].startswith("error: ")
    assert said in lines[0]
    assert lines[1].startswith("hint: ")
    assert hint in lines[1]


def test_debug_shows_the_traceback_wherever_it_stands(openllm: Run) -> None:
    for args in (
        ["--debug", "plan", "smollm2", "--machine", "h101"],
        ["plan", "smollm2", "--machine", "h101", "--debug"],
    ):
        done = openllm(*args)
        assert done.returncode == 2
        assert "Traceback" in done.stderr
        assert "error: There is no machine" in done.stderr
    assert "Traceback" in openllm("plan", "smollm2", "--machine", "h101", OPENLLM_DEBUG="1").stderr


def _crash() -> None:
    raise ZeroDivisionError("a fault\nof two lines")


def _interrupt() -> None:
    raise KeyboardInterrupt


def test_an_unexpected_error_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("openllm.cli.plan.plan", _crash)
    monkeypatch.delenv("OPENLLM_DEBUG", raising=False)
    assert main.run(["plan"]) == 1
    said = capsys.readouterr()
    assert said.err == (
        "error: ZeroDivisionError: a fault of two lines\nhint: This should not happen. Run again with --debug.\n"
    )
    assert said.out == ""
    monkeypatch.setenv("OPENLLM_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        main.run(["plan"])


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openllm.cli.plan.plan", _interrupt)
    assert main.run(["plan"]) == 130


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -m openllm.cli.main models --schema | head -c 1 >/dev/null; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert done.stderr == ""


def test_completion(openllm: Run) -> None:
    done = openllm(_OPENLLM_COMPLETE="complete_bash", COMP_WORDS="openllm p", COMP_CWORD="1")
    assert done.stdout.split() == ["plan", "pull", "ps"]
