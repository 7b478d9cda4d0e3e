"""``openllm quantize`` and its neighbours, as far as no tool is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run, command, environ

__all__ = ["command", "environ"]  # fixtures


def test_int4_from_a_folder_to_a_plan(command: Run, tiny: Path) -> None:
    """The whole way with the tool that is ours, on the engine that serves it."""
    done = command("quantize", str(tiny), "--mode", "int4", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["mode"] == "int4"
    assert record["group_size"] == 32
    assert record["source"]["quantization"] == "none"
    assert len(record["source"]["sha256"]) == 64
    assert record["bytes"] < (tiny / "model.safetensors").stat().st_size / 3
    quality = record["quality"]
    assert quality["unmeasured"] == ""
    assert quality["tokens"] > 2500
    # Random weights know no text: what 4 bits change of their loss is a few hundredths.
    assert quality["after"]["perplexity"] == pytest.approx(quality["before"]["perplexity"], rel=0.15)
    plan = json.loads(command("plan", str(tiny), "--quantize", "int4", "--json").stdout)["plan"]
    assert plan["engine"] == "openvino"
    assert plan["manifest"]["source"]["path"] == record["folder"]
    again = command("quantize", str(tiny), "--mode", "int4")
    assert again.returncode == 2
    assert "exists already" in again.stderr
    assert "--force" in again.stderr
    assert command("quantize", str(tiny), "--mode", "int4", "--force", "--no-measure").returncode == 0


def test_an_output_of_ones_own(command: Run, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = command("quantize", str(tiny), "--mode", "int8", "--output", str(out), "--no-measure")
    assert done.returncode == 0, done.stderr
    assert f"openllm start {out}" in done.stderr
    assert done.stdout.splitlines()[-1] == str(out)
    assert json.loads(command("plan", str(out), "--json").stdout)["plan"]["quantization"] == "int8"


def test_two_at_the_same_time(environ: dict[str, str], tiny: Path) -> None:
    """The one that waits for the other does not make it once more."""
    command = [sys.executable, "-m", "openllm", "quantize", str(tiny), "--mode", "int8", "--no-measure"]
    both = [
        subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 2], said
    assert sum("exists already" in each for each in said) == 1


def test_a_plan_says_how_to_make_what_is_missing(command: Run) -> None:
    done = command("plan", "smollm2", "--quantize", "gptq")
    assert done.returncode == 2
    assert "openllm quantize smollm2:135m-instruct --mode gptq" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--mode", "int5"), "There is no mode 'int5'"),
        (("--mode", "gptq", "--group-size", "48"), "Groups of 48"),
        (("--mode", "w8a8", "--group-size", "64"), "no groups"),
        (("--mode", "gptq", "--samples", "0"), "--samples must be at least 1"),
        (("--mode", "gptq", "--calibration", "/nowhere.txt"), "cannot be read"),
        (("--mode", "fp8", "--calibration", "/nowhere.txt"), "needs no calibration"),
        (("--mode", "fp8", "--samples", "4"), "--samples would change nothing"),
        (("--mode", "int4", "--seed", "1"), "--seed would change nothing"),
        (("--mode", "int8", "--threads", "1"), "--threads would change nothing"),
        (("--mode", "gptq", "--variant", "q4"), "no variant 'q4'"),
    ],
)
def test_what_cannot_be(command: Run, tiny: Path, arguments: tuple[str, ...], said: str) -> None:
    done = command("quantize", str(tiny), *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "hint: " in done.stderr


def test_offline_without_the_tools(command: Run, tiny: Path) -> None:
    done = command("quantize", str(tiny), "--mode", "gptq", "--offline")
    assert done.returncode == 3
    assert "--offline forbids" in done.stderr
