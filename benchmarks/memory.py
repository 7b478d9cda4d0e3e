"""What plans say of memory, beside what runners take. ``python -m benchmarks.memory [--only NAME] [FOLDER ...]``,
with ``--cache MIB`` for another size of the KV cache.

Each way runs in a process of its own that does what a runner does: it imports the engine, loads the model, decodes a
token, and then works until its KV cache is full. Reported are the bytes of the weights in the loaded model, and the
resident set (Rss of /proc/self/smaps_rollup, Linux only; the largest that was seen). A front is not in it. FOLDERs are
further checkpoints of SmolLM2, each run on vLLM.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from openllm.engines.base import Engine, EngineConfig, Generation, Sampling
from openllm.engines.engine_config import engine_config
from openllm.engines.open import open_engine, preload
from openllm.errors import OpenLLMError
from openllm.machine import engines_installed, probe
from openllm.plan import Overrides, Plan, make_plan
from openllm.recipes.registry import Registry, shipped_folder
from openllm.weights.fetch import fetch
from openllm.weights.inspect import manifests
from openllm.weights.manifest import Manifest
from openllm.weights.progress import reporter_for
from openllm.weights.settings import HubSettings
from openllm.weights.store import Store, default_root

_MIB = 1 << 20
_CACHE = 256  # MiB; small enough to be filled in a minute on two cores
_WIDTH = 16
_PROMPT = 448  # with what is generated, a multiple of every engine's block
_WAYS: dict[str, dict[str, Any]] = {
    "openvino int8": {"backend": "openvino"},
    "openvino float16": {"backend": "openvino", "quantize": "none"},
    "openvino float32": {
        "backend": "openvino", "quantize": "none", "dtype": "float32", "kv_cache_dtype": "float32",
    },
    "vllm float32": {"backend": "vllm", "dtype": "float32"},
    "vllm bfloat16": {"backend": "vllm", "dtype": "bfloat16"},
    "transformers float32": {"backend": "transformers", "dtype": "float32"},
    "transformers int8": {"backend": "transformers", "quantize": "int8", "dtype": "float32"},
    "transformers int4": {"backend": "transformers", "quantize": "int4", "dtype": "float32"},
}  # fmt: skip


class Seen(msgspec.Struct, frozen=True):
    """Bytes: of the weights in the loaded model, and resident after the imports, after loading, and at most while the
    cache was filled."""

    weights: int
    imported: int
    loaded: int
    filled: int


class Case(NamedTuple):
    """A way, by its name, planned."""

    name: str
    plan: Plan
    config: EngineConfig


def cases(folders: Sequence[str], only: str | None, cache: int) -> Iterator[Case]:
    """Every way that this machine can take; others are named on stderr."""
    ways = [("smollm2", name, options) for name, options in _WAYS.items()]
    ways += [(folder, f"vllm {Path(folder).name}", {"backend": "vllm"}) for folder in folders]
    for model, name, options in ways:
        if only not in (None, name):
            continue
        try:
            yield _case(model, name, options | {"kv_cache_bytes": cache * _MIB})
        except OpenLLMError as error:
            print(f"{name}: {error.message}", file=sys.stderr)


def _case(model: str, name: str, options: dict[str, Any]) -> Case:
    root = default_root()
    hub = HubSettings(cache=str(root / "hub"))
    found = manifests(model, Registry.open([shipped_folder()]), hub=hub, offline=True)
    here: list[Manifest] = [each for each in found if model != "smollm2" or each.format == "gguf"]
    overrides = Overrides(concurrency=_WIDTH, **options)
    plan = make_plan(here, probe(root), overrides, installed=engines_installed())
    weights = fetch(plan.manifest, Store(root), reporter=reporter_for(), offline=False, hub=hub)
    return Case(name, plan, engine_config(plan, weights, root / "converted", {}))


def measure(config: EngineConfig) -> Seen:
    """Load and fill in a child process. Raises ``RuntimeError`` with what it said if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", "--child"],
        input=msgspec.json.encode(config), capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace")[-2000:])
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Seen)


def _child() -> None:
    config = msgspec.json.decode(sys.stdin.buffer.read(), type=EngineConfig)
    preload(config.engine)
    imported = _resident()
    _convert(config)
    engine = open_engine(config, lambda _: None)
    _run(engine, [[1, 2, 3]])
    loaded = _resident()
    filled = max(loaded, _fill(engine, config))
    print(json.dumps(msgspec.to_builtins(Seen(_weights(engine), imported, loaded, filled))))
    engine.close()


def _convert(config: EngineConfig) -> None:
    """A GGUF file is rewritten the first time: not in this process, whose memory is looked at."""
    if not config.path.endswith(".gguf"):
        return
    pid = os.fork()
    if pid == 0:
        open_engine(config, lambda _: None).close()
        os._exit(0)
    os.waitpid(pid, 0)


def _fill(engine: Engine, config: EngineConfig) -> int:
    """Prompts of which none begins like another, more tokens than the cache holds. Returns the largest resident set."""
    tokens = _cache_tokens(config)
    chance = random.Random(0)
    prompts = [[chance.randrange(1000, 40_000) for _ in range(_PROMPT)] for _ in range(tokens // _PROMPT + 2)]
    return _run(engine, prompts)


def _cache_tokens(config: EngineConfig) -> int:
    numbers = 2 * 30 * 3 * 64  # of a token of SmolLM2-135M
    each = {"openvino": 1.125, "vllm": 4, "transformers": 4}[config.engine]
    if config.kv_cache_dtype == "float32":
        each = 4
    elif config.dtype == "bfloat16" and config.engine != "openvino":
        each = 2
    return int(config.kv_cache_bytes / (numbers * each))


def _run(engine: Engine, prompts: Sequence[list[int]]) -> int:
    waiting = list(itertools.starmap(_generation, enumerate(prompts)))
    running, largest = 0, 0
    while waiting or running:
        while waiting and running < _WIDTH:
            engine.add(waiting.pop())
            running += 1
        for delta in engine.step():
            if delta.finish == "error":
                raise SystemExit(delta.error)
            running -= delta.finish is not None
        largest = max(largest, _resident())
    return largest


def _generation(number: int, prompt: list[int]) -> Generation:
    return Generation(number, prompt, Sampling(max_tokens=16, temperature=0.0))


def _resident() -> int:
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    return 0


def _weights(engine: Any) -> int:
    """Bytes of the weights in the loaded model."""
    if hasattr(engine, "_pipeline"):
        return _openvino_bytes(engine)
    model = getattr(engine, "_model", None)
    if model is None:
        model = engine._core.model_executor.driver_worker.worker.model_runner.model
    seen: dict[int, int] = {}
    for module in model.modules():
        for parameter in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            seen[parameter.data_ptr() or id(parameter)] = parameter.numel() * parameter.element_size()
        seen[id(module)] = _packed_away(module)
    return sum(seen.values())


def _packed_away(module: Any) -> int:
    """A float matrix that vLLM has handed to oneDNN: its parameter is empty."""
    weight = getattr(module, "weight", None)
    if weight is None or weight.numel() or not hasattr(module, "input_size_per_partition"):
        return 0
    sides = module.output_size_per_partition * module.input_size_per_partition
    return int(sides * weight.element_size())


def _openvino_bytes(engine: Any) -> int:
    config, path = engine._open.args[0], engine._open.args[1]
    assert config.engine == "openvino"
    return int((path / "openvino_model.bin").stat().st_size)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", nargs="*")
    parser.add_argument("--only")
    parser.add_argument("--cache", type=int, default=_CACHE)
    parser.add_argument("--child", action="store_true")
    asked = parser.parse_args()
    if asked.child:
        _child()
        return
    print("| way | weights, predicted | seen | off | in all, predicted | seen | off | imports | loaded |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for case in cases(asked.folders, asked.only, asked.cache):
        try:
            seen = measure(case.config)
        except RuntimeError as error:
            print(f"{case.name}: {error}", file=sys.stderr)
            continue
        print(_row(case, seen), flush=True)


def _row(case: Case, seen: Seen) -> str:
    terms = {term.what: term.bytes for term in case.plan.arithmetic}
    total = terms["in all"] + terms.get("mapped file", 0)
    cells = [
        case.name, _mib(case.plan.weight_bytes), _mib(seen.weights), _off(case.plan.weight_bytes, seen.weights),
        _mib(total), _mib(seen.filled), _off(total, seen.filled), _mib(seen.imported), _mib(seen.loaded),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _mib(size: int) -> str:
    return f"{size / _MIB:.0f} MiB"


def _off(predicted: int, seen: int) -> str:
    return f"{100 * (predicted - seen) / seen:+.1f} %" if seen else "?"


if __name__ == "__main__":
    main()
