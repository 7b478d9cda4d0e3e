"""The real tools, in the environment that the command makes, on a model of two layers.

The environment is made in the user's cache, once: 13 s and 1.2 GB where the packages are at hand. One mode runs always;
OPENLLM_TEST_QUANTIZE=1 runs the others too, half a minute each.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from openllm.machine import probe
from openllm.weights.store import default_root
from tests.cli.conftest import Run, command, environ

__all__ = ["command", "environ"]  # fixtures

FEATURES = frozenset(probe(default_root()).cpu_features)
ALL = os.environ.get("OPENLLM_TEST_QUANTIZE") == "1"
rest = pytest.mark.skipif(not ALL, reason="OPENLLM_TEST_QUANTIZE=1 runs it")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """An empty cache but for the tools' environment, which is the user's."""
    shared = default_root() / "tools"
    shared.mkdir(parents=True, exist_ok=True)
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "tools").symlink_to(shared)
    return cache


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("mode", "tool", "tensors"),
    [
        pytest.param("w8a8", "llmcompressor 0.14", "weight_scale"),
        pytest.param("w4a16", "llmcompressor 0.14", "weight_packed", marks=rest),
        pytest.param("gptq", "gptqmodel 7.7", "qweight", marks=rest),
        pytest.param("awq", "gptqmodel 7.7", "qweight", marks=rest),
        pytest.param("fp8", "llmcompressor 0.14", "weight_scale", marks=rest),
    ],
)
def test_a_real_checkpoint(command: Run, tiny: Path, cache: Path, mode: str, tool: str, tensors: str) -> None:
    from safetensors import safe_open

    done = command("quantize", str(tiny), "--mode", mode, "--samples", "4", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["tool"].startswith(tool)
    assert record["torch"].startswith("2.13.0")
    if mode != "fp8":
        assert record["calibration"]["samples"] == 4
        assert "layer 2 of 2" in done.stderr
    folder = Path(record["folder"])
    with safe_open(folder / "model.safetensors", "np") as file:
        quantized = [name for name in file.keys() if name.endswith(tensors)]  # noqa: SIM118
    assert len(quantized) == 2 * 7  # every matrix of both layers
    if mode == "w8a8" or (
        mode != "fp8" and FEATURES & {"avx512f"}
    ):  # vLLM has 4 bit kernels for AVX-512 only
        quality = record["quality"]
        assert not quality["unmeasured"]
        assert quality["after"]["perplexity"] == pytest.approx(quality["before"]["perplexity"], rel=0.05)
    assert not list((cache / "tmp").glob("*"))
    listed = command("plan", str(tiny), "--quantize", mode, "--backend", "vllm", "--json")
    if mode != "fp8":
        assert json.loads(listed.stdout)["plan"]["manifest"]["source"]["path"] == str(folder)
