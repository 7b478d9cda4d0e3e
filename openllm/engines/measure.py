"""``python -m openllm.engines.measure``: what a model is worth on one engine: perplexity, and speed alone.

One JSON job on stdin, one JSON answer on stdout. In a process of its own, so that the engine's memory goes with it.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from openllm.engines.base import EngineConfig, Generation, Sampling
from openllm.engines.open import open_engine
from openllm.errors import RunnerFailed
from openllm.parent import die_with_parent

_ANSWER_TOKENS = 64
_WARM_TOKENS = 4


class MeasureJob(msgspec.Struct, frozen=True, kw_only=True):
    """``windows`` are texts as token ids, each scored by itself; ``prompt`` is answered to take the time."""

    config: EngineConfig
    windows: list[list[int]]
    prompt: list[int]
    stop_ids: tuple[int, ...] = ()


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """``tokens_per_second`` of one greedy answer alone, prompt not counted; ``answer`` its ids up to a stop."""

    perplexity: float
    tokens_per_second: float
    load_seconds: float
    answer: list[int]


def measure(job: MeasureJob) -> Measured:
    """Run ``job`` in a child process; blocks for seconds to minutes. Raises ``RunnerFailed``."""
    done = subprocess.run(
        [sys.executable, "-m", "openllm.engines.measure", str(os.getpid())],
        input=msgspec.json.encode(job),
        capture_output=True,
        check=False,
    )
    if done.returncode == 0:
        return msgspec.json.decode(done.stdout.splitlines()[-1], type=Measured)
    lines = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
    said = lines[-1][:400] if lines else f"exit code {done.returncode}"
    raise RunnerFailed(f"{job.config.engine} could not measure {job.config.path}: {said}")


def _measure(job: MeasureJob) -> Measured:
    began = time.perf_counter()
    talk = _Talk(job.config)
    loaded = time.perf_counter() - began
    score = _openvino_score if job.config.engine == "openvino" else talk.score
    total, count = score(job.config, job.windows)
    talk.answer(job.prompt, _WARM_TOKENS)
    ids, seconds = talk.answer(job.prompt, _ANSWER_TOKENS)
    ends = [place for place, index in enumerate(ids) if index in job.stop_ids]
    return Measured(
        perplexity=math.exp(-total / count),
        tokens_per_second=(len(ids) - 1) / seconds,
        load_seconds=loaded,
        answer=ids[: ends[0]] if ends else ids,
    )


class _Talk:
    """One engine, asked one thing after another."""

    def __init__(self, config: EngineConfig) -> None:
        self._engine = open_engine(config, lambda text: None)
        self._next = 0

    def answer(self, prompt: list[int], tokens: int) -> tuple[list[int], float]:
        """Token ids and the seconds from the first one to the last."""
        self._add(prompt, Sampling(max_tokens=tokens, temperature=0.0))
        ids: list[int] = []
        began = 0.0
        while self._engine.busy():
            for delta in self._engine.step():
                if delta.error:
                    raise RunnerFailed(delta.error)
                began = began or time.perf_counter()
                ids += delta.tokens
        return ids, max(time.perf_counter() - began, 1e-6)

    def score(self, config: EngineConfig, windows: list[list[int]]) -> tuple[float, int]:
        """The sum of log probabilities of all tokens but each window's first, and their number."""
        total, count = 0.0, 0
        for window in windows:
            self._add(window, Sampling(max_tokens=1, temperature=0.0, prompt_logprobs=0))
            while self._engine.busy():
                for delta in self._engine.step():
                    if delta.error:
                        raise RunnerFailed(delta.error)
                    rows = delta.prompt_logprobs or []
                    total += sum(row[0][1] for row in rows)
                    count += len(rows)
        return total, count

    def _add(self, prompt: list[int], sampling: Sampling) -> None:
        self._engine.add(Generation(self._next, prompt, sampling))
        self._next += 1


def _openvino_score(config: EngineConfig, windows: list[list[int]]) -> tuple[float, int]:
    """The pipeline has no logprobs of prompts, so the graph is run by itself, in the precision of the pipeline's."""
    from openllm.engines.openvino_precision import precision
    from openllm.engines.openvino_score import score

    return score(Path(config.path), windows, precision(config.dtype, config.quantization))


def main() -> int:
    die_with_parent(int(sys.argv[1]))
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=MeasureJob)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # engines print
    out.write(msgspec.json.encode(_measure(job)))
    out.flush()
    os._exit(0)  # an engine's threads may not end by themselves


if __name__ == "__main__":
    sys.exit(main())
