"""Embeddings and scores on vLLM's pooling runner, in the ``EngineCore`` of this process, as ``vllm_engine`` does."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Sets what vLLM reads from the environment, so it comes before vLLM.
# ruff: noqa: I001
import openllm.engines.vllm_engine  # noqa: F401

import torch
from vllm.config import PoolerConfig
from vllm.engine.arg_utils import EngineArgs
from vllm.pooling_params import PoolingParams
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.engine import FinishReason as CoreFinish
from vllm.v1.engine.core import EngineCore
from vllm.v1.executor import Executor

from openllm.engines.base import EncoderSteps, EngineConfig
from openllm.engines.encoding import Encoding, Vector
from openllm.engines.encoding_queue import check_encoding
from openllm.errors import RunnerFailed, UnsupportedOption

_POOLINGS = {"mean": "MEAN", "cls": "CLS", "last": "LAST"}
_DTYPES = ("auto", "float32", "bfloat16", "float16")
_BATCH_TOKENS = 4096
_NO_CACHE = 0.05


class VLLMEncoder:
    """See ``engines.encoding.Encoder``. Dense layers after the pooling are vLLM's to find in the folder."""

    def __init__(self, config: EngineConfig, report: Callable[[str], None]) -> None:
        assert config.encoder is not None
        if config.dtype not in _DTYPES:
            raise UnsupportedOption(
                f"The vllm engine has no dtype {config.dtype}.",
                hint=f"Choose {', '.join(_DTYPES)}.",
                param="dtype",
            )
        report(f"loading {config.name} with vLLM")
        if config.device == "cpu" and config.threads:
            torch.set_num_threads(config.threads)
        settings = _engine_args(config, config.encoder).create_engine_config()
        self._core: Any = EngineCore(settings, Executor.get_class(settings), log_stats=False)
        self._task = "classify" if config.encoder.task == "rerank" else "embed"
        self._activate = _activates(config.encoder)
        self._settings = settings.model_config
        self._context = config.context
        self._vocabulary: int = settings.model_config.get_vocab_size()
        self._open: set[str] = set()

    def add(self, request: Encoding) -> None:
        check_encoding(request, context=self._context, vocabulary=self._vocabulary)
        types = {"compressed_token_type_ids": request.second} if request.second else None
        params = PoolingParams(task=self._task, use_activation=self._activate, extra_kwargs=types)
        params.verify(self._settings)
        name = str(request.id)
        core_request, wave = self._core.preprocess_add_request(
            EngineCoreRequest(
                request_id=name,
                prompt_token_ids=request.ids,
                mm_features=None,
                sampling_params=None,
                pooling_params=params,
                arrival_time=time.time(),
                lora_request=None,
                cache_salt=None,
                data_parallel_rank=None,
            )
        )
        self._core.add_request(core_request, wave)
        self._open.add(name)

    def abort(self, request_id: int) -> None:
        name = str(request_id)
        if name in self._open:
            self._open.discard(name)
            self._core.abort_requests([name])

    def step(self) -> list[Vector]:
        outputs, executed = self._core.step_fn()
        self._core.post_step(model_executed=executed)
        mine = outputs.get(0) if outputs else None
        found = [] if mine is None else [each for each in mine.outputs if each.request_id in self._open]
        return [self._vector(each) for each in found if each.finish_reason is not None]

    def busy(self) -> bool:
        return bool(self._open)

    def close(self) -> None:
        if self._core is not None:
            self._core.shutdown()
        self._core = None
        self._open.clear()

    def _vector(self, output: Any) -> Vector:
        self._open.discard(output.request_id)
        request_id = int(output.request_id)
        if output.pooling_output is None or output.finish_reason == CoreFinish.ERROR:
            return Vector(request_id, b"", "vLLM could not encode this text", RunnerFailed.__name__)
        return Vector(request_id, output.pooling_output.to("cpu", torch.float32).numpy().tobytes())


def _activates(wanted: EncoderSteps) -> bool:
    """Is a vector brought to the length 1, or a score put through the model's own function? vLLM reads from
    config.json which function that is."""
    return wanted.task == "rerank" or wanted.steps.normalize


def _engine_args(config: EngineConfig, wanted: EncoderSteps) -> Any:
    cpu = config.device == "cpu"
    return EngineArgs(
        model=str(Path(config.path)),
        runner="pooling",
        convert="classify" if wanted.task == "rerank" else "embed",
        pooler_config=_pooler(wanted),
        skip_tokenizer_init=True,
        dtype=config.dtype,
        max_model_len=config.context,
        max_num_seqs=config.max_sequences,
        max_num_batched_tokens=max(_BATCH_TOKENS, config.context, config.max_sequences),
        enforce_eager=config.eager,
        kv_cache_memory_bytes=config.kv_cache_bytes or None,
        # On a CPU vLLM wants that part of the memory to be free, even where it takes nothing of it for a cache.
        gpu_memory_utilization=config.memory_fraction if config.kv_cache_bytes or not cpu else _NO_CACHE,
        tensor_parallel_size=config.tensor_parallel,
        distributed_executor_backend="uni" if cpu or config.tensor_parallel == 1 else "mp",
        disable_log_stats=True,
        use_tqdm_on_load=False,
    )


def _pooler(wanted: EncoderSteps) -> Any:
    if wanted.task == "rerank":
        return None  # a cross-encoder's own head says it
    return PoolerConfig(
        seq_pooling_type=_POOLINGS[wanted.steps.pooling], use_activation=wanted.steps.normalize
    )
