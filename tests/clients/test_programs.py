"""Programs as users write them, with other projects' clients, run unchanged against a real model."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from openllm.chat.tokenizer import load_tokenizer
from tests.clients.conftest import PROGRAMS
from tests.serving import MODEL, Served, serving


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(MODEL, "--backend", "openvino") as server:
        server.until_ready()
        yield server


def run(*argv: str) -> None:
    # Nothing but the server is there to be asked.
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize(
    "program", ["langchain_chat.py", "instructor_extract.py", "litellm_chat.py", "llm_prompt.py"]
)
def test_python_client(program: str, clients_python: str, served: Served) -> None:
    run(clients_python, str(PROGRAMS / program), f"{served.url}/v1", MODEL)


def test_openai_of_npm(node: str, served: Served) -> None:
    run(node, str(PROGRAMS / "openai_npm.mjs"), f"{served.url}/v1", MODEL)


def test_lm_eval(clients_python: str, smollm2_gguf: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(smollm2_gguf, tmp_path, ())
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    tokenizer.backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "bos_token": "<|im_start|>"}'
    )
    # Likelihoods of prompts: vLLM's engine gives them.
    with serving(MODEL, "--backend", "vllm") as server:
        server.until_ready()
        run(clients_python, str(PROGRAMS / "lm_eval_task.py"), f"{server.url}/v1", MODEL, str(folder))
