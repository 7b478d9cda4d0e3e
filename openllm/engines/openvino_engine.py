"""OpenVINO GenAI's continuous batching on an IR folder, or on a .gguf file that is rewritten as one.

Refused: an empty or too long prompt, ids outside the vocabulary, penalties outside -2..2, min_tokens above
max_tokens, logit_bias, logprobs, prompt_logprobs, and guides with keywords that would not be enforced. Everything
else in ``Sampling`` is honoured. ``Delta.cached`` is 0: GenAI does not tell.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from openllm.engines.base import Delta, EngineConfig, Generation, Sampling
from openllm.engines.limits import check_ids, check_lengths, refuse_adapter, refuse_images
from openllm.engines.openvino_convert import converted, form_of
from openllm.engines.openvino_forms import openvino_forms
from openllm.engines.openvino_guide import structured_output
from openllm.engines.openvino_guided import Guided, open_guided
from openllm.engines.openvino_model import ModelFacts, read_facts
from openllm.engines.openvino_packages import genai, ov
from openllm.engines.openvino_precision import PRECISIONS, precision
from openllm.engines.openvino_sampling import check_sampling
from openllm.engines.openvino_sequence import Sequence
from openllm.errors import RunnerFailed, UnsupportedOption

# Property value, bytes of a number, further bytes per token and head (scale and zero point, f32 each).
_KV_FORMS = {
    "float32": ("f32", 4.0, 0),
    "float16": ("f16", 2.0, 0),
    "bfloat16": ("bf16", 2.0, 0),
    "u8": ("u8", 1.0, 8),
}
_KV_FORMS["auto"] = _KV_FORMS["u8"]
_BLOCK_TOKENS = 32  # of the CPU plugin's paged attention


class OpenVINOEngine:
    """See ``engines.base.Engine``. Steps hold the GIL: give it a process of its own."""

    def __init__(self, config: EngineConfig, report: Callable[[str], None]) -> None:
        _refuse_options(config)
        path = Path(config.path)
        if path.suffix == ".gguf":
            path = converted(path, Path(config.cache), form_of(config.quantization, config.dtype), report)
        report(f"loading {config.name} with OpenVINO")
        facts = read_facts(path)
        self._path = path
        self._context = config.context
        self._vocabulary = facts.vocabulary
        self._sequences: dict[int, Sequence] = {}
        self._guided: Guided
        self._pipeline: Any
        self._open = partial(self._load, config, path, facts)
        self._open()

    def _load(self, config: EngineConfig, path: Path, facts: ModelFacts) -> None:
        self._guided = open_guided(config, path, facts.vocabulary)
        self._pipeline = genai.ContinuousBatchingPipeline(
            path, self._guided.tokenizer, _scheduler(config, facts), "CPU", **_properties(config)
        )

    def add(self, request: Generation) -> None:
        refuse_adapter(request)
        refuse_images(request)
        check_lengths(request, self._context)
        check_ids(request, self._vocabulary)
        check_sampling(request.sampling)
        if self._guided.full and not self.busy():
            self.close()
            self._open()  # gives back the memory of all compiled guides
        if self._guided.admit(request):
            self._start(request)

    def abort(self, request_id: int) -> None:
        self._guided.abort(request_id)
        sequence = self._sequences.pop(request_id, None)
        if sequence is not None:
            sequence.handle.cancel()

    def step(self) -> list[Delta]:
        refused: list[Delta] = []
        if self._guided.waiting:
            ready, refused = self._guided.take(wait=not self._sequences)
            for request in ready:
                self._start(request)
        if not self._sequences:
            return refused
        try:
            self._pipeline.step()
        except RuntimeError as error:
            return [*refused, *self._recover(error)]
        return [*refused, *self._read()] if refused else self._read()

    def busy(self) -> bool:
        return bool(self._sequences) or self._guided.waiting

    def weight_forms(self) -> dict[str, int]:
        return openvino_forms(self._path, self._vocabulary)

    def close(self) -> None:
        self._guided.close()
        for request_id in list(self._sequences):
            self.abort(request_id)
        self._pipeline = None

    def _read(self) -> list[Delta]:
        deltas = []
        for sequence in self._sequences.values():
            delta = sequence.read()
            if delta is not None:
                deltas.append(delta)
        for delta in deltas:
            if delta.finish is not None:
                del self._sequences[delta.id]
        return deltas

    def _start(self, request: Generation) -> None:
        prompt = ov.Tensor(np.array([request.prompt], np.int64))
        handle = self._pipeline.add_request(request.id, prompt, _generation_config(request.sampling))
        self._sequences[request.id] = Sequence(handle, request)

    def _recover(self, error: RuntimeError) -> list[Delta]:
        """Drop the latest sequence and start the others again from where they are.

        A step that raises leaves all its sequences half done, and GenAI takes no further step before they are
        all gone. It does not tell which one it was: the older ones went through steps before. If it was not
        the latest, a later step raises again and the next one is dropped.
        """
        if not self._sequences:
            raise RunnerFailed(f"OpenVINO failed with nothing to run: {error}") from error
        said = str(error).strip().splitlines()
        _, broken = self._sequences.popitem()
        broken.handle.cancel()
        deltas = [broken.failed(said[-1] if said else "the step failed"), *self._read()]
        others, self._sequences = self._sequences, {}
        for sequence in others.values():
            sequence.handle.cancel()
        self._pipeline.step()  # lets go of what was cancelled
        for sequence in others.values():
            rest = sequence.rest()
            if rest is None:
                deltas.append(sequence.failed("another sequence broke the step that this one was in"))
            else:
                self._start(rest)
        return deltas


def _refuse_options(config: EngineConfig) -> None:
    if config.device != "cpu":
        raise UnsupportedOption(
            f"The openvino engine runs on the CPU, not on {config.device}.",
            hint="Use --device cpu.",
            param="device",
        )
    if config.tensor_parallel != 1:
        raise UnsupportedOption(
            "The openvino engine cannot split a model.", hint="Use --backend vllm.", param="tensor_parallel"
        )
    for name, value, known in (
        ("dtype", config.dtype, PRECISIONS),
        ("kv_cache_dtype", config.kv_cache_dtype, _KV_FORMS),
    ):
        if value not in known:
            raise UnsupportedOption(
                f"The openvino engine has no {name} {value}.", hint=f"Choose {', '.join(known)}.", param=name
            )


def _properties(config: EngineConfig) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "KV_CACHE_PRECISION": _KV_FORMS[config.kv_cache_dtype][0],
        # Pinned threads wait for their core while the front uses it: 16 % more CPU time a step, no faster alone.
        "ENABLE_CPU_PINNING": False,
        **precision(config.dtype, config.quantization),
    }
    if config.threads:
        properties["INFERENCE_NUM_THREADS"] = config.threads
    return properties


def _scheduler(config: EngineConfig, facts: ModelFacts) -> Any:
    scheduler = genai.SchedulerConfig()
    scheduler.max_num_seqs = config.max_sequences
    scheduler.enable_prefix_caching = True
    _, number, overhead = _KV_FORMS[config.kv_cache_dtype]
    block = facts.cache_bytes(_BLOCK_TOKENS, number, overhead)
    scheduler.num_kv_blocks = max(config.kv_cache_bytes // block, 1)
    return scheduler


def _generation_config(sampling: Sampling) -> Any:
    config = genai.GenerationConfig()
    config.max_new_tokens = sampling.max_tokens
    if sampling.stop_ids:
        config.stop_token_ids = set(sampling.stop_ids)
        config.eos_token_id = sampling.stop_ids[0]
        config.min_new_tokens = sampling.min_tokens
    else:
        config.set_eos_token_id(0)  # it wants one; ignored
        config.ignore_eos = True
    config.presence_penalty = sampling.presence_penalty
    config.frequency_penalty = sampling.frequency_penalty
    config.repetition_penalty = sampling.repetition_penalty
    if sampling.temperature > 0:
        config.do_sample = True
        config.temperature = sampling.temperature
        config.top_p = sampling.top_p
        config.min_p = sampling.min_p
        if sampling.top_k > 0:
            config.top_k = sampling.top_k
        seed = random.getrandbits(62) if sampling.seed is None else sampling.seed
        config.rng_seed = seed % (1 << 62)
    else:
        config.do_sample = False
    if sampling.guide is not None:
        config.structured_output_config = structured_output(sampling.guide)
    return config
