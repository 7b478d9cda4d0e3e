"""One engine in one mode, in a process of its own: ``python -m benchmarks.matrix_row CONFIG``.

CONFIG is an ``EngineConfig`` as JSON. It prints one line of JSON.
The engine runs in this process: there is no front, and no HTTP.
"""

from __future__ import annotations

import math
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import psutil

from openllm.chat.tokenizer import load_tokenizer
from openllm.engines.base import Engine, EngineConfig, Generation, Sampling
from openllm.engines.open import open_engine
from openllm.errors import OpenLLMError

STREAMS = (1, 16, 64)
TOKENS = 64
TEXT = Path(__file__).parents[1] / "tests" / "engines" / "perplexity_text.txt"
_QUESTION = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
_PROMPT_TOKENS = 40


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured; ``refusal`` says why nothing was, and is "" otherwise.

    ``seconds`` is loading, imports included; ``rate`` tokens a second by streams; ``memory`` bytes resident after that.
    """

    refusal: str = ""
    answer: str = ""
    seconds: float = 0.0
    rate: dict[str, float] = {}
    memory: int = 0
    perplexity: float = 0.0
    weights: dict[str, int] = {}


def measure(config: EngineConfig) -> Figures:
    """Load, ask, and measure. Blocks for up to some minutes."""
    begun = time.monotonic()
    try:
        engine = open_engine(config, lambda _: None)
    except OpenLLMError as error:
        return Figures(refusal=f"{error} {error.hint or ''}".strip())
    seconds = time.monotonic() - begun
    tokenizer = load_tokenizer(Path(config.tokenizer))
    text = tokenizer.encode(TEXT.read_text(), add_special_tokens=False)
    ids = count(1)

    def run(prompts: list[list[int]], tokens: int, stop: tuple[int, ...] = ()) -> list[int]:
        for prompt in prompts:
            engine.add(Generation(next(ids), prompt, Sampling(tokens, temperature=0.0, stop_ids=stop)))
        return [token for delta in _steps(engine) for token in delta.tokens]

    # Before anything of the text is in the prefix cache: OpenVINO has no logprobs of what it reads from there.
    losses = losses_of(engine, config, text, next(ids))
    perplexity = math.exp(sum(losses) / len(losses))
    question = tokenizer.encode(_QUESTION, add_special_tokens=False)
    answer = tokenizer.decode(run([question], 24, tuple(tokenizer.stop_ids)))
    endless = text * 8
    rates = {}
    for streams in STREAMS:
        prompts = [endless[17 * n : 17 * n + _PROMPT_TOKENS] for n in range(streams)]
        run(prompts, 2)  # the first steps of a width may allocate and compile
        begun = time.monotonic()
        made = run([prompt[1:] for prompt in prompts], TOKENS)
        rates[str(streams)] = len(made) / (time.monotonic() - begun)
    memory = psutil.Process().memory_info().rss
    return Figures(
        answer=answer, seconds=seconds, rate=rates, memory=memory, perplexity=perplexity, weights=engine.weight_forms()
    )  # fmt: skip


def losses_of(engine: Engine, config: EngineConfig, text: list[int], request_id: int) -> list[float]:
    """Loss of each token of ``text`` but the first, through the engine that serves."""
    if config.engine == "openvino":
        return openvino_losses(engine, text)
    engine.add(Generation(request_id, text, Sampling(1, temperature=0.0, prompt_logprobs=0)))
    places = [place for delta in _steps(engine) for place in delta.prompt_logprobs or []]
    return [-place[0][1] for place in places]


def openvino_losses(engine: Any, text: list[int]) -> list[float]:
    """As ``losses_of``: GenAI tells the logprobs of a prompt only where it says the prompt again."""
    import numpy as np
    import openvino as ov
    import openvino_genai as genai

    config = genai.GenerationConfig()
    config.max_new_tokens = 1
    config.set_eos_token_id(0)
    config.ignore_eos = True
    config.echo = True
    config.logprobs = 1
    pipeline = engine._pipeline
    handle = pipeline.add_request(10**6, ov.Tensor(np.array([text], np.int64)), config)
    outputs: list[Any] = []
    while pipeline.has_non_finished_requests():
        pipeline.step()
    while handle.can_read():
        outputs += handle.read().values()
    ids = [token for output in outputs for token in output.generated_ids]
    assert ids[: len(text)] == text
    logs = [value for output in outputs for value in output.generated_log_probs]
    return [-value for value in logs[1 : len(text)]]


def _steps(engine: Engine) -> Any:
    while engine.busy():
        for delta in engine.step():
            if delta.finish == "error":
                raise RuntimeError(delta.error)
            yield delta


if __name__ == "__main__":
    print(msgspec.json.encode(measure(msgspec.json.decode(sys.argv[1], type=EngineConfig))).decode())
