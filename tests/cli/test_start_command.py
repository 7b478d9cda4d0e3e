"""``openllm start``: what goes wrong is one clear line and a hint, and the exit code is not 0; no process stays."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cli.conftest import Run
from tests.lora import ATTENTION, SMOLLM2, write_adapter

_MODULES = ("openllm.runner", "openllm.runner.template")  # a forked runner shows its template's command line


@pytest.fixture(autouse=True)
def no_runner_is_left() -> Iterator[None]:
    before = orphans()
    yield
    gone, alive = psutil.wait_procs(
        [p for p in psutil.process_iter() if p.pid in orphans() - before], timeout=5
    )
    assert not alive, gone


def orphans() -> set[int]:
    """Runners whose front is gone; others belong to servers that run beside the test."""
    found = set()
    for process in psutil.process_iter(["pid", "cmdline"]):
        argv = process.info["cmdline"] or []
        module = next((part for part in argv if part in _MODULES), None)
        if module is not None:
            parent = int(argv[argv.index(module) + 2])
            if not psutil.pid_exists(parent):
                found.add(process.info["pid"])
    return found


def refuse(openllm: Run, *args: str, code: int) -> tuple[str, str]:
    done = openllm("start", *args, "--port", "0")
    assert done.returncode == code, done.stderr
    talk = [line for line in done.stderr.splitlines() if line.startswith(("error:", "hint:"))]
    assert "Traceback" not in done.stderr
    error, hint = talk
    return error, hint


def test_an_unknown_model_suggests_the_nearest(openllm: Run) -> None:
    error, hint = refuse(openllm, "smolm2", code=2)
    assert "smolm2" in error
    assert "smollm2" in hint


def test_a_typo_in_a_recipe(openllm: Run, recipes: Path) -> None:
    (recipes / "mine.yaml").write_text("family: mine\ntitel: Mine\n")
    error, _ = refuse(openllm, "mine", code=2)
    assert "mine.yaml:2" in error
    assert "titel" in error


def test_a_corrupt_gguf(openllm: Run, tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF\x03\x00\x00\x00" + b"\xff" * 64)
    error, _ = refuse(openllm, str(path), code=3)
    assert "broken.gguf" in error


def test_a_truncated_gguf(openllm: Run, tmp_path: Path, smollm2_gguf: Path) -> None:
    path = tmp_path / "half.gguf"
    with smollm2_gguf.open("rb") as whole:
        path.write_bytes(whole.read(40_000_000))
    error, _ = refuse(openllm, str(path), code=3)
    assert "half.gguf" in error


def test_a_quantization_that_no_variant_has(openllm: Run) -> None:
    error, hint = refuse(openllm, "smollm2", "--quantize", "gptq", code=2)
    assert "gptq" in error
    assert "int8" in hint


def test_a_backend_that_is_not_there(openllm: Run) -> None:
    error, _ = refuse(openllm, "smollm2", "--backend", "turbo", code=2)
    assert "turbo" in error


def test_offline_without_the_weights(openllm: Run) -> None:
    error, hint = refuse(openllm, "smollm2", "--offline", code=3)
    assert "offline" in error
    assert "openllm pull" in hint


def test_a_hub_that_is_down(openllm: Run) -> None:
    error, hint = refuse(openllm, "nobody/nothing", code=3)
    assert "127.0.0.1:9" in error
    assert hint


def test_a_full_disk(openllm: Run, tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", folder], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("no small file system here: mounting one needs root")
    try:
        error, hint = refuse(openllm, "smollm2", "--cache-dir", str(folder), code=3)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
    assert "missing" in error
    assert "OPENLLM_CACHE" in hint


def test_an_engine_option_that_the_engine_does_not_have(openllm: Run, smollm2_gguf: Path) -> None:
    error, _ = refuse(openllm, str(smollm2_gguf), "--engine-option", "speed=11", code=2)
    assert "speed" in error


def test_an_address_that_is_not_here(openllm: Run) -> None:
    error, _ = refuse(openllm, "smollm2", "--host", "203.0.113.1", code=2)
    assert "203.0.113.1" in error


def test_an_adapter_on_a_backend_that_ignores_it(openllm: Run, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "sql", 1, modules=ATTENTION)
    error, hint = refuse(openllm, "smollm2", "--backend", "openvino", "--adapter", f"sql={adapter}", code=2)
    assert "openvino" in error
    assert "--backend vllm" in hint


def test_an_adapter_that_is_not_there(openllm: Run) -> None:
    error, hint = refuse(openllm, "smollm2", "--adapter", "sql=./nowhere", code=2)
    assert "nowhere" in error
    assert "adapter_config.json" in hint


def test_an_adapter_of_another_model(openllm: Run, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "sql", 1, modules=ATTENTION, shape=SMOLLM2._replace(hidden=512))
    error, _ = refuse(openllm, "smollm2", "--backend", "vllm", "--adapter", f"sql={adapter}", code=2)
    assert "512" in error


def test_image_urls_for_a_model_that_does_not_see(openllm: Run) -> None:
    error, hint = refuse(openllm, "smollm2", "--allow-image-urls", "example.com", code=2)
    assert "text only" in error
    assert "vision model" in hint
