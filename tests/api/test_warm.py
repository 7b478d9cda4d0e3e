"""``--warm``: prompts that each new engine reads before clients send them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from openllm.cli.warm import read_prompts
from openllm.errors import UsageError
from tests.cli.conftest import Run, command, environ  # noqa: F401 - fixtures
from tests.serving import MODEL, Served, serving

RULES = "You are the assistant of a shop that sells boats. " * 40


def until_told(served: Served, text: str, times: int = 1) -> str:
    deadline = time.monotonic() + 120
    while served.log.count(text) < times:
        assert served.process.poll() is None, served.log
        assert time.monotonic() < deadline, served.log
        time.sleep(0.02)
    return next(line for line in reversed(served.lines) if text in line)


def test_each_new_engine_is_warmed(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(
        '[{"role": "user", "content": "Hello there"}]\n\n'
        '{"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}],'
        ' "max_tokens": 99, "model": "another"}\n'
        '[{"role": "user", "content": "' + "far too long " * 9000 + '"}]\n'
    )
    with serving(MODEL, "--backend", "echo", "--warm", str(path)) as server:
        line = until_told(server, "warm: 2 prompts, ")
        assert "prompt 3 was refused" in server.log
        assert int(line.split()[3]) > 10
        server.runner().kill()
        until_told(server, "warm: 2 prompts, ", times=2)
        # One token each: 99 were not made.
        assert server.metric("openllm_generated_tokens_total") <= 4


def test_the_first_client_finds_its_prefix(tmp_path: Path) -> None:
    """On vLLM, which tells what it found; OpenVINO GenAI does not."""
    path = tmp_path / "rules.txt"
    path.write_text(RULES)
    with serving(MODEL, "--backend", "vllm", "--warm", str(path)) as server:
        until_told(server, "warm: 1 prompts")
        usage = server.client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "system", "content": RULES}, {"role": "user", "content": "What do you sell?"}],
            max_tokens=1,
        ).usage
        assert usage is not None
        assert usage.prompt_tokens_details is not None
        assert usage.prompt_tokens_details.cached_tokens is not None
        assert usage.prompt_tokens_details.cached_tokens > 0.5 * usage.prompt_tokens


def test_a_text_is_a_system_message(tmp_path: Path) -> None:
    path = tmp_path / "rules.txt"
    path.write_text("Be kind.\n")
    (body,) = read_prompts(path)
    assert body["messages"][0] == {"role": "system", "content": "Be kind.\n"}
    assert body["messages"][1]["role"] == "user"


def test_separators_of_lines_within_json(tmp_path: Path) -> None:
    path = tmp_path / "a.JSONL"
    path.write_text('[{"role": "user", "content": "one\u2028two"}]\r\n\n')
    (body,) = read_prompts(path)
    assert body["messages"][0]["content"] == "one\u2028two"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.txt", " \n", "is empty"),
        ("a.jsonl", "\n", "is empty"),
        ("a.jsonl", '[{"role": "user", "content": "x"}]\n{"role"', "a.jsonl:2 is not JSON"),
        ("a.jsonl", '{"prompt": "x"}', "a.jsonl:1 has no messages"),
        ("a.jsonl", "3", "a.jsonl:1 has no messages"),
    ],
)
def test_files_that_are_wrong(tmp_path: Path, name: str, text: str, said: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UsageError, match=said.replace(".", r"\.")):
        read_prompts(path)


def test_a_wrong_prompt_ends_the_start(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    for text, said in (
        (json.dumps({"messages": [{"role": "user", "content": "x"}], "tolos": []}), "Prompt 1 of --warm"),
        ("", "is empty"),
    ):
        path.write_text(text)
        with serving(MODEL, "--backend", "echo", "--warm", str(path)) as server:
            assert server.process.wait(30) == 2
            server.join()
            assert said in server.log
            assert "hint: " in server.log


def test_a_file_that_is_not_there(command: Run) -> None:  # noqa: F811
    done = command("start", MODEL, "--warm", "/nowhere/a.txt")
    assert done.returncode == 2
    assert "cannot be read" in done.stderr
