"""``python -m benchmarks.matrix [ENGINE:MODE ...]``: every mode of every engine on this machine, SmolLM2-135M.

A row is planned as `openllm start` plans it, and then measured in a process of its own, or refused as `start` would
refuse it. Rows that are not named keep what was measured before. ``--checkpoint ENGINE:MODE=FOLDER`` measures a
quantized checkpoint. Writes ``results/matrix.json`` and ``results/matrix.md``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import msgspec

from benchmarks.matrix_row import STREAMS, Figures
from openllm.engines.engine_config import engine_config
from openllm.errors import OpenLLMError
from openllm.machine import engines_installed, probe
from openllm.plan import Overrides, make_plan
from openllm.recipes.registry import Registry, shipped_folder
from openllm.weights.fetch import fetch
from openllm.weights.inspect import local_manifests, manifests
from openllm.weights.local import open_local
from openllm.weights.manifest import LocalPath, Manifest
from openllm.weights.progress import QuietReporter
from openllm.weights.settings import HubSettings
from openllm.weights.store import Store, default_root

ENGINES = ("openvino", "vllm", "transformers")
DTYPES = ("float32", "bfloat16", "float16")
QUANTIZATIONS = ("int8", "int4", "gptq", "awq", "w4a16", "w8a8", "fp8", "mxfp4", "nvfp4")
RESULTS = Path(__file__).with_name("results")
_SECONDS = 900


@dataclass(frozen=True)
class Mode:
    """An engine and a dtype of floats, or a quantization."""

    engine: str
    mode: str

    @property
    def name(self) -> str:
        return f"{self.engine}:{self.mode}"

    def overrides(self) -> Overrides:
        """What a user would ask for."""
        floats = self.mode in DTYPES
        return Overrides(
            backend=self.engine,
            device="cpu",
            quantize="none" if floats else self.mode,
            dtype=self.mode if floats else None,
            context=2048,
            concurrency=64,
            kv_cache_bytes=1 << 30,
        )


MODES = tuple(Mode(engine, mode) for engine in ENGINES for mode in (*DTYPES, *QUANTIZATIONS))


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.matrix", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ENGINE:MODE", help="only these")
    parser.add_argument("--checkpoint", action="append", default=[], metavar="ENGINE:MODE=FOLDER")
    options = parser.parse_args(argv)
    folders = dict(each.split("=", 1) for each in options.checkpoint)
    wanted = [mode for mode in MODES if not options.rows or mode.name in options.rows]
    found = read_results()
    for mode in wanted:
        print(mode.name, flush=True)
        found[mode.name] = row(mode, folders.get(mode.name))
        write_results(found)
    return 0


def row(mode: Mode, folder: str | None) -> Figures:
    """Plan and measure one row. Blocks for up to some minutes."""
    try:
        found = gguf_manifests() if folder is None else local_manifests(Path(folder))
        plan = make_plan(found, probe(default_root()), mode.overrides(), installed=engines_installed())
        weights = (
            open_local(plan.manifest.source, plan.manifest.format)
            if isinstance(plan.manifest.source, LocalPath)
            else fetch(
                plan.manifest, Store(default_root()), reporter=QuietReporter(), offline=True, hub=_hub()
            )
        )
    except OpenLLMError as error:
        return Figures(refusal=f"{error} {error.hint or ''}".strip())
    config = engine_config(plan, weights, default_root(), {})
    if not config.tokenizer:
        raise SystemExit(f"{folder} has no tokenizer")
    command = [sys.executable, "-m", "benchmarks.matrix_row", msgspec.json.encode(config).decode()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        said = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        return Figures(refusal=f"It broke: {said[-1]}")
    return msgspec.json.decode(lines[-1], type=Figures)


def gguf_manifests() -> tuple[Manifest, ...]:
    """The file that is on every machine of ours: the other variants are on the hub."""
    known = manifests("smollm2", Registry.open([shipped_folder()]), hub=_hub(), offline=True)
    return tuple(manifest for manifest in known if manifest.format == "gguf")


def table(found: dict[str, Figures], where: str) -> str:
    """The matrix as Markdown: what was measured, then what is refused and why."""
    streams = " / ".join(map(str, STREAMS))
    lines = [
        "# Engines and modes on SmolLM2-135M-Instruct",
        "",
        f"{where}. In process, without the front: {streams} greedy streams of 64 tokens after 40 of prompt,",
        "one run each. Weights come from the Q4_1 file, dequantized, except for checkpoints of quantized weights.",
        "Perplexity is that of `tests/engines/perplexity_text.txt`; memory is the process's resident set after the 64",
        "streams, its KV cache included; load is from opening the engine, imports included. Stored is what the loaded",
        "matrices are, embeddings left out. `python -m benchmarks.matrix` makes this page.",
        "",
        f"| engine | mode | capital of France | tokens/s at {streams} | perplexity | RSS, MiB | load, s | stored |",
        "|---|---|---|---|---|---|---|---|",
    ]
    measured = [(mode, found[mode.name]) for mode in MODES if mode.name in found]
    lines += [_measured(mode, figures) for mode, figures in measured if not figures.refusal]
    lines += ["", "What is refused, and how:", "", "| engine | mode | refusal |", "|---|---|---|"]
    lines += [f"| {mode.engine} | {mode.mode} | {each.refusal} |" for mode, each in measured if each.refusal]
    return "\n".join(lines) + "\n"


def _measured(mode: Mode, figures: Figures) -> str:
    total = sum(figures.weights.values())
    forms = ", ".join(f"{100 * count // total} % {form}" for form, count in sorted(figures.weights.items()))
    right = "right" if "Paris" in figures.answer else f"**wrong**: {figures.answer[:40]!r}"
    rates = " / ".join(f"{figures.rate[str(streams)]:.0f}" for streams in STREAMS)
    cells = (mode.engine, mode.mode, right, rates, f"{figures.perplexity:.2f}", f"{figures.memory >> 20}",
             f"{figures.seconds:.1f}", forms)  # fmt: skip
    return f"| {' | '.join(cells)} |"


def read_results() -> dict[str, Figures]:
    path = RESULTS / "matrix.json"
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Figures]) if path.exists() else {}


def write_results(found: dict[str, Figures]) -> None:
    machine = probe(default_root())
    features = (
        "AVX-512" if "avx512f" in machine.cpu_features else "AVX2" if "avx2" in machine.cpu_features else ""
    )
    where = f"{date.today().isoformat()}, {machine.cores} cores ({machine.architecture}, {features})"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "matrix.json").write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    (RESULTS / "matrix.md").write_text(table(found, where))


def _hub() -> HubSettings:
    return HubSettings(cache=str(default_root() / "no-hub"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
