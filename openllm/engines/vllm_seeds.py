"""Keeps seeded requests whole on vLLM's CPU worker while their prompts are computed in parts.

After each part vLLM samples a token, throws it away, and winds the request's generator back by its offset. A CPU
generator has none: ``set_offset`` raises, and the step of all requests is lost (vLLM 0.32,
``GPUModelRunner._bookkeeping_sync``). Here the generators of such requests are put aside while their worthless
token is sampled, so they need no winding back, and an answer does not depend on how its prompt was cut.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def protect_seeds(core: Any) -> None:
    """Change the model runner of an in-process ``EngineCore`` so; does nothing where it is of another kind."""
    worker = getattr(core.model_executor, "driver_worker", None)
    runner: Any = getattr(getattr(worker, "worker", None), "model_runner", None)
    if not hasattr(runner, "discard_request_mask") or not hasattr(runner, "input_batch"):
        return
    sample = runner.sample_tokens

    def sample_without_partial(grammar_output: Any) -> Any:
        batch = runner.input_batch
        generators: dict[int, Any] = batch.generators
        if not generators:
            return sample(grammar_output)
        partial = np.nonzero(runner.discard_request_mask.np[: batch.num_reqs])[0].tolist()
        aside = {index: generators.pop(index) for index in partial if index in generators}
        try:
            return sample(grammar_output)
        finally:
            generators.update(aside)

    runner.sample_tokens = sample_without_partial
