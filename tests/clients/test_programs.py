"""Programs as users write them, with other projects' clients, run unchanged against a real model."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from openllm.chat.tokenizer import load_tokenizer
from tests.clients.conftest import PROGRAMS
from tests.parrot import NAME, write_recipe
from tests.serving import MODEL, Served, serving


def run(*argv: str) -> None:
    # Nothing but the server is there to be asked.
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LANGSMITH_TRACING": "false",
    }
    # They are installed without bytecode: what is used is compiled once, else each start would take seconds more.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize(
    "program", ["langchain_chat.py", "instructor_extract.py", "litellm_chat.py", "llm_prompt.py"]
)
def test_python_client(program: str, clients_python: str, served: Served) -> None:
    run(clients_python, str(PROGRAMS / program), f"{served.url}/v1", MODEL)


def test_tool_loop_of_llm(clients_python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # llm leaves the choice to the model, which SmolLM2 is too small for.
    write_recipe(tmp_path)
    monkeypatch.setenv("OPENLLM_MODELS", str(tmp_path))
    with serving(NAME, "--backend", "echo") as server:
        server.until_ready()
        run(clients_python, str(PROGRAMS / "llm_tools.py"), f"{server.url}/v1", NAME)


def test_openai_of_npm(node: str, served: Served) -> None:
    run(node, str(PROGRAMS / "openai_npm.mjs"), f"{served.url}/v1", MODEL)


@pytest.fixture(scope="module")
def tokenizer_folder(smollm2_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's tokenizer as transformers loads it."""
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer = load_tokenizer(smollm2_gguf, folder / "cache", ())
    tokenizer.backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "bos_token": "<|im_start|>"}'
    )
    return folder


def evaluate(python: str, served: Served, tokenizer_folder: Path, kind: str) -> None:
    run(python, str(PROGRAMS / "lm_eval_task.py"), f"{served.url}/v1", MODEL, str(tokenizer_folder), kind)


def test_lm_eval_generates(clients_python: str, served: Served, tokenizer_folder: Path) -> None:
    evaluate(clients_python, served, tokenizer_folder, "answer")


def test_lm_eval_compares_likelihoods(clients_python: str, tokenizer_folder: Path) -> None:
    # Logprobs of prompts: vLLM's engine gives them.
    with serving(MODEL, "--backend", "vllm") as server:
        server.until_ready()
        evaluate(clients_python, server, tokenizer_folder, "choose")
