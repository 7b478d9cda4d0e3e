"""``openllm plan`` from the outside: tables, JSON, other machines, and every refusal as two lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run

TYPO = """family: mine
title: Mine
publisher: Me
license: mit
default: tiny
models:
  - name: tiny
    contxt: 2048
"""


def test_table(openllm: Run) -> None:
    done = openllm("plan", "smollm2")
    assert done.returncode == 0
    assert done.stderr == ""
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert list(rows)[:4] == ["field", "model", "variant", "engine"]
    assert "openvino" in rows["engine"]
    assert rows["context"].split()[1] == "8192"
    assert {"kv_cache", "concurrency", "threads", "dtype", "quantization"} <= set(rows)


def test_json_is_a_machine_file_too(command: Run, tmp_path: Path) -> None:
    done = command("plan", "smollm2", "--machine", "h100x2", "--json")
    found = json.loads(done.stdout)
    assert found["plan"]["engine"] == "vllm"
    assert found["plan"]["device"] == "cuda"
    assert len(found["machine"]["gpus"]) == 2
    path = tmp_path / "machine.json"
    path.write_text(done.stdout)
    again = command("plan", "smollm2", "--machine", str(path), "--json")
    assert json.loads(again.stdout) == found


def test_this_machine_in_json(command: Run) -> None:
    found = json.loads(command("plan", "smollm2", "--json", "--machine", "this").stdout)
    assert found["machine"]["name"] == "this"
    assert found["plan"]["threads"] == found["machine"]["cores"]


def test_overrides_reach_the_plan(command: Run) -> None:
    done = command(
        "plan", "smollm2", "--json", "--context", "2048", "--concurrency", "4", "--threads", "1", "--kv-cache",
        "1GiB", "--kv-cache-dtype", "u8", "--dtype", "f32", "--memory-fraction", "0.5", "--device", "cpu",
        "--backend", "openvino", "--variant", "q4_1", "--quantize", "q4_1", "--tensor-parallel", "1",
    )  # fmt: skip
    plan = json.loads(done.stdout)["plan"]
    wanted = {"context": 2048, "concurrency": 4, "threads": 1, "kv_cache_bytes": 1 << 30, "kv_cache_dtype": "u8",
              "dtype": "float32", "memory_fraction": 0.5, "device": "cpu", "engine": "openvino"}  # fmt: skip
    assert {key: plan[key] for key in wanted} == wanted
    reasons = {decision["field"]: decision["because"] for decision in plan["decisions"]}
    for field in (
        "context",
        "concurrency",
        "threads",
        "kv_cache",
        "dtype",
        "memory_fraction",
        "device",
        "engine",
    ):
        assert reasons[field] == "asked for"


@pytest.mark.parametrize(
    ("args", "code", "said", "hint"),
    [
        (["smolm2"], 2, "no model 'smolm2'", "smollm2"),
        (["what even is this"], 2, "neither a model's name", "openllm models"),
        (["./nowhere"], 2, "nowhere", ""),
        (["smollm2:135m-instruct@q9"], 2, "no variant 'q9'", "q4_1"),
        (["smollm2", "--variant", "q9"], 2, "no variant 'q9'", "q4_1"),
        (["smollm2", "--quantize", "gptq"], 2, "--quantize gptq cannot be honoured", "What works here:"),
        (["smollm2", "--backend", "tgi"], 2, "no backend 'tgi'", "openvino"),
        (["smollm2", "--context", "100000"], 2, "8192", "--context 8192"),
        (["smollm2", "--context", "-5"], 2, "--context -5 is out of range", "16"),
        (["smollm2", "--kv-cache", "9TiB"], 4, "does not fit", "--kv-cache"),
        (["llama3.1:405b-instruct", "--machine", "laptop-16gb"], 4, "does not fit", "smaller"),
        (["org/never-heard-of", "--offline"], 3, "org/never-heard-of", "--offline"),
        (["org/never-heard-of"], 3, "127.0.0.1:9", ""),
    ],
)
def test_refusals(command: Run, args: list[str], code: int, said: str, hint: str) -> None:
    done = command("plan", *args)
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert lines[0].startswith("error: ")
    assert said in lines[0]
    assert lines[1].startswith("hint: ")
    assert hint in lines[1]
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["smolm2"], 2, "error: no model 'smolm2'"),
        (["smollm2", "--quantize", "gptq"], 2, "error: --quantize gptq cannot be honoured"),
        (["smollm2", "--context", "9000"], 2, "error: smollm2:135m-instruct has a context of 8192 tokens"),
    ],
)
def test_refusals_from_the_outside(openllm: Run, args: list[str], code: int, said: str) -> None:
    done = openllm("plan", *args)
    first, second = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (code, "")
    assert first.startswith(said)
    assert second.startswith("hint: ")


def test_typo_in_a_users_recipe(openllm: Run, recipes: Path) -> None:
    (recipes / "mine.yaml").write_text(TYPO)
    done = openllm("plan", "mine")
    assert done.returncode == 2
    first, second = done.stderr.splitlines()
    assert "mine.yaml:8" in first
    assert "contxt" in first
    assert "context" in first
    assert second.startswith("hint: ")
    assert openllm("plan", "smollm2").returncode == 0  # other models do not suffer


def test_corrupt_gguf(openllm: Run, tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    for content in (b"GGUF\x03\x00\x00\x00" + b"\xff" * 64, b"not at all", b""):
        path.write_bytes(content)
        done = openllm("plan", str(path))
        assert done.returncode == 3, done.stderr
        assert "broken.gguf" in done.stderr.splitlines()[0]
        assert len(done.stderr.splitlines()) == 2


def test_real_gguf_in_place(command: Run, smollm2_gguf: Path) -> None:
    plan = json.loads(command("plan", str(smollm2_gguf), "--json", "--offline").stdout)["plan"]
    assert plan["manifest"]["source"]["path"] == str(smollm2_gguf)
    assert (plan["context"], plan["engine"]) == (8192, "openvino")


def test_the_arithmetic(command: Run) -> None:
    done = command("plan", "llama2:70b-chat", "--machine", "h100x2", "--explain")
    assert "68,976,648,192 parameters x 16 bits / 8" in done.stdout
    assert "137,953,296,384" in done.stdout
    assert "2 x 80 layers x 8 KV heads x 128 x 2 B" in done.stdout
    failed = command("plan", "llama2:70b-chat", "--machine", "laptop-16gb", "--explain")
    assert failed.returncode == 4
    assert "missing" in failed.stdout
    assert "does not fit" in failed.stderr.splitlines()[0]
    assert "It would fit" in failed.stderr.splitlines()[1]


def test_what_does_not_fit_is_refused_before_anything_is_fetched(openllm: Run, tmp_path: Path) -> None:
    """The hub is unreachable here: asking it would be another error."""
    cache = tmp_path / "cache"
    done = openllm("start", "llama3.1:405b-instruct", "--port", "0", "--cache-dir", str(cache))
    assert done.returncode == 4, done.stderr
    assert "does not fit" in done.stderr
    assert not (cache / "files").exists()
